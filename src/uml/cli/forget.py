"""`uml alias` and `forget`: by which names models are known, and which are known no longer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from uml.cli.arguments import MODEL, model_argument
from uml.cli.command import command
from uml.cli.names import as_path, expanded
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.core.errors import ModelNotFound
from uml.core.jsonable import jsonable


@command()
def alias(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name", show_default=False)],
    model: Annotated[str | None, MODEL] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the name back")] = False,
) -> Result:
    """Give a model one more name, or take a name back.

    A name that was given to another model before goes over to this one. Names that models have of themselves, by
    their file or repository, cannot be taken back.
    """
    if remove == (model is not None):
        raise typer.BadParameter("give NAME MODEL for a new name, or --remove NAME to take one back")
    if model is None:
        if client := session.find_client():
            with client:
                return said(client.unalias(name), f"{name} is no name any more")
        with session.library() as library:
            library.registry.unalias(name)
        return said({"alias": name}, f"{name} is no name any more")
    path = as_path(model)
    if client := session.find_client():
        with client:
            named = client.alias(str(client.add(path)["id"]) if path else model, name)
    else:
        with session.library() as library:
            registry = library.registry
            found = registry.alias(registry.add(path).id if path else model, name)
            named = library.describe(found)
    return said(named, f"{named['id']} is called {name} too")


@command()
def forget(
    session: Session,
    model: Annotated[
        str, model_argument("Id, alias or path of a model, or a folder that was added with scan", "MODEL|FOLDER")
    ],
) -> Result:
    """Forget a model, or a folder and all that was found in it; no file of yours is deleted.

    Its aliases and pins go with it, and the GGUF file in the data folder that a model of an older format was made
    into. Only `uml scan` of its folder, or using the model by its path, brings it back; a
    model that is loaded must be unloaded first.
    """
    if client := session.find_client():
        with client:
            done = _forgotten(client.forget, model)
    else:
        from uml.registry.forgetting import target

        with session.library() as library:
            registry = library.registry
            done = _forgotten(lambda name: jsonable(library.forget(target(registry, name))), model)
    models = ", ".join(done["models"]) or "no model"
    folder = f"{done['folder']} is no longer looked through; " if done["folder"] else ""
    return said(done, f"{folder}{models} {'are' if len(done['models']) > 1 else 'is'} forgotten; no file was deleted")


def _forgotten(by: Callable[[str], dict[str, Any]], name: str) -> dict[str, Any]:
    """Forget what is called so; a folder may be called by its name alone where no model is."""
    path = expanded(name).absolute()
    if as_path(name) or (os.sep in name and path.is_dir()):
        return by(str(path))
    try:
        return by(name)
    except ModelNotFound:
        if not path.is_dir():
            raise
        return by(str(path))
