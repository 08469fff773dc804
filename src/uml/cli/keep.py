"""`uml pin` and `unpin`: which models a server keeps in memory."""

from __future__ import annotations

from typing import Any

from uml.cli import render
from uml.cli.arguments import Model
from uml.cli.command import command
from uml.cli.names import name_for
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.cli.workers import warn


@command(load_options=True)
def pin(session: Session, model: Model, options: dict[str, Any]) -> Result:
    """Load a model and keep it: it is never evicted, and comes back after a crash and with the next server.

    It lasts until `uml unpin` or `uml unload`.
    """
    with session.client() as client:
        name = name_for(client, model)
        if not session.flags.json:
            render.note(f"loading {name}, unless it is loaded already")
        ready = client.pin(name, options)
    if not session.flags.json:
        warn(ready)
    return said(ready, f"{name} is pinned")


@command()
def unpin(session: Session, model: Model) -> Result:
    """Let a pinned or preloaded model go when it is idle, or when another needs its memory."""
    with session.client() as client:
        name = name_for(client, model)
        done = client.unpin(name)
    return said(done, f"{name} is no longer kept" if done.get("was_kept") else f"{name} was not to be kept")
