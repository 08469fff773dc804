"""`uml logs`: what engines wrote."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import typer

from uml.cli import render
from uml.cli.arguments import model_argument
from uml.cli.command import command
from uml.cli.names import name_for
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.client.client import Client
from uml.core.errors import NotFound

_LOOK_EVERY_S: Final = 0.5
_TAIL: Final = 1000
"""Lines fetched at a look; more than this within one period may be missed by `-f`."""


@command()
def logs(
    session: Session,
    model: Annotated[str | None, model_argument("Id or alias of a model; without: every loaded one")] = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=10_000, metavar="N", help="How many of the last lines")
    ] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written, until Ctrl-C")] = False,
) -> Result | None:
    """Show what the engine of a model wrote."""
    with session.client() as client:
        names = [name_for(client, model)] if model else _loaded(client)
        if not names:
            return said({"logs": {}}, "no model is loaded; name one to see the log of its last load")
        found = {name: client.log(name, max(lines, _TAIL) if follow else lines) for name in names}
        if not follow:
            text = [line for name, log in found.items() for line in _marked(name, log[-lines:], len(names) > 1)]
            return said({"logs": {name: log[-lines:] for name, log in found.items()}}, *text)
        for name, log in found.items():
            _put(session, name, log[-lines:], len(names) > 1)
        with contextlib.suppress(KeyboardInterrupt):
            _follow(session, client, found)
    return None


def _follow(session: Session, client: Client, found: dict[str, list[str]]) -> None:
    many = len(found) > 1
    while True:
        time.sleep(_LOOK_EVERY_S)
        for name, before in found.items():
            try:
                now = client.log(name, _TAIL)
            except NotFound:
                continue
            _put(session, name, fresh(before, now), many)
            found[name] = now


def fresh(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The lines of `now` that were not in `before`, where both are tails of one growing log."""
    for start in range(len(before) + 1):
        kept = before[start:]
        if list(now[: len(kept)]) == list(kept):
            return list(now[len(kept) :])
    return list(now)


def _loaded(client: Client) -> list[str]:
    return [str(w["model"]) for w in client.status().get("workers", ()) if isinstance(w, Mapping)]


def _marked(name: str, log: Sequence[str], many: bool) -> list[str]:
    return [f"{name}: {line}" for line in log] if many else list(log)


def _put(session: Session, name: str, log: Sequence[str], many: bool) -> None:
    if session.flags.json:
        for line in log:
            render.emit({"model": name, "line": line})
    elif log:
        render.show(said(None, *_marked(name, log, many)), as_json=False)
