"""`uml profile`: the load options that a model has whoever asks for it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from uml.cli.arguments import Model
from uml.cli.command import command
from uml.cli.names import as_path, name_for
from uml.cli.result import Facts, Lines, Result
from uml.cli.session import Session


@command(load_options=True)
def profile(
    session: Session,
    model: Model,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="NAME", help="Take an option out of the profile; may be given several times"),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Forget the whole profile first")] = False,
    *,
    options: dict[str, Any],
) -> Result:
    """Show or save the load options that a model has whoever asks for it: a program, `uml run`, the next server.

    Options that are given are saved beside those of before. They come after the settings' and before those of a
    single `uml load`, and count from the next load on. An engine may be pinned to a version:
    `uml profile MODEL --engine transformers==5.23.0`.
    """
    given = options | {name.replace("-", "_"): None for name in unset or ()}
    if client := session.find_client():
        with client:
            name = name_for(client, model)
            saved = client.save_profile(name, given, clear=clear) if given or clear else client.profile(name)
    else:
        with session.library() as library:
            found = library.find(str(as_path(model) or model))
            kept = library.save_profile(found, given, clear=clear) if given or clear else library.profile(found)
            saved = {"model": found.id, "options": dict(kept)}
    return Result(saved, (_shown(saved),))


def _shown(saved: dict[str, Any]) -> Facts | Lines:
    if not saved["options"]:
        name = saved["model"]
        return Lines((f"{name} has no profile; `uml profile {name} --ctx 4096` makes one",))
    pairs = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in saved["options"].items())
    return Facts(tuple(pairs), title=f"{saved['model']} is loaded with")
