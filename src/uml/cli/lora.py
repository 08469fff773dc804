"""`uml lora`: adapters of a model that is loaded, while it stays loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uml.cli.arguments import Model
from uml.cli.command import command, group
from uml.cli.names import name_for
from uml.cli.result import Result, Table, said
from uml.cli.session import Session
from uml.core.errors import BadRequest

if TYPE_CHECKING:
    from uml.client.client import Client

_Which = Annotated[str, typer.Argument(metavar="ADAPTER", help="Its number or name, as `uml lora ls` shows them")]

lora = group("lora", "Server", "LoRA adapters of a model that is loaded: they come and go while it answers.")


@command()
def ls(session: Session, model: Model) -> Result:
    """List the adapters of a loaded model.

    SCALE is what requests get that do not say; 0 is off. A request says with `"lora": [{"id": 0, "scale": 0.5}]`.
    """
    with session.client() as client:
        name = name_for(client, model)
        found = client.adapters(name)
    rows = tuple((str(one["id"]), str(one["name"]), f"{one['scale']:g}", str(one["path"])) for one in found)
    table = Table(("ID", "NAME", "SCALE", "PATH"), rows, frozenset({"ID", "SCALE"}), empty=f"{name} has no adapters")
    return Result({"model": name, "data": found}, (table,))


@command()
def load(
    session: Session,
    model: Model,
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="A path, or the id of an adapter among the models")],
    scale: Annotated[float, typer.Option("--scale", metavar="X", help="0: only for requests that name it")] = 1.0,
) -> Result:
    """Give a loaded model one more adapter, until the model is unloaded.

    To have it at every load: uml load MODEL --lora ADAPTER.
    """
    path = Path(adapter).expanduser()
    with session.client() as client:
        name = name_for(client, model)
        # The server has another working folder.
        done = client.load_adapter(name, str(path.absolute()) if path.exists() else adapter, scale)
    return said(done, f"{name} has the adapter {done['id']}, until it is unloaded")


@command()
def scale(
    session: Session,
    model: Model,
    adapter: _Which,
    scale: Annotated[float, typer.Argument(metavar="SCALE", help="0 is off")],
) -> Result:
    """Set how strongly an adapter works for requests that do not say."""
    with session.client() as client:
        name = name_for(client, model)
        id = _id(client, name, adapter)
        done = client.scale_adapter(name, id, scale)
    return said(done, f"the adapter {id} of {name} works with {scale:g}")


@command()
def unload(session: Session, model: Model, adapter: _Which) -> Result:
    """Take an adapter from a model. Answers that have it keep it to their end."""
    with session.client() as client:
        name = name_for(client, model)
        id = _id(client, name, adapter)
        done = client.unload_adapter(name, id)
    return said(done, f"{name} has the adapter {id} no longer")


def _id(client: Client, model: str, adapter: str) -> int:
    if adapter.isdigit():
        return int(adapter)
    there: list[dict[str, Any]] = client.adapters(model)
    found = [int(one["id"]) for one in there if one["name"] == adapter]
    if len(found) != 1:
        known = ", ".join(f"{one['id']} ({one['name']})" for one in there) or "none"
        raise BadRequest(f"{adapter!r} is {'no' if not found else 'not one'} adapter of {model}; there are: {known}")
    return found[0]


for _function in (ls, load, scale, unload):
    lora.command(_function.__name__)(_function)
