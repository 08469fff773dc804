"""`uml convert`: a model made of another, in another format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from uml.cli import complete, render, words
from uml.cli.command import command
from uml.cli.names import as_path, expanded
from uml.cli.progress import install_bar
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.core.errors import Cancelled

if TYPE_CHECKING:
    from uml.core.model import Model
    from uml.house import Library
    from uml.runtime.conversions.workshop import Making

Tell = Callable[["Making"], None]
Convert = Callable[["Library", "Model", Path | None, str, Tell], Path]
"""From a model to where the new one lies: the place that was asked for, the precision (empty: the usual), and who
hears how far it is."""

Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Id, alias or path of a model", autocompletion=complete.models, show_default=False
    ),
]


@command(server=False)
def convert(
    session: Session,
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="What it becomes: onnx")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="Where it goes; without, a folder of its own in the data folder"),
    ] = None,
    precision: Annotated[
        str,
        typer.Option("--precision", metavar="NAME", help="How weights are kept; for onnx int4 (the usual), int8, fp32"),
    ] = "",
) -> Result | None:
    """Make a model of another format out of one.

    The new model is in `uml ls` afterwards, and loads as every other. The old one stays as it is. Nothing is left of
    a conversion that fails or is stopped. With --json every step is one line.

    onnx: folders of safetensors become folders of ONNX Runtime GenAI. That library's builder needs an environment of
    its own, once: `uml engine install onnx-builder`; what it makes runs in `uml engine install onnx`.
    """
    make = CONVERSIONS.get(to)
    if make is None:
        raise typer.BadParameter(f"--to is {to!r}; expected one of {', '.join(CONVERSIONS)}")
    with session.library() as library, install_bar(f"{name} to {to}", quiet=session.flags.json) as update:
        path = as_path(name)
        model = library.registry.add(path) if path else library.registry.fresh(library.registry.resolve(name))

        def tell(making: Making) -> None:
            event = {"event": "progress", "text": making.text, "percent": making.percent}
            render.emit(event) if session.flags.json else update(event)

        try:
            place = make(library, model, expanded(out).absolute() if out else None, precision, tell)
        except KeyboardInterrupt:
            raise Cancelled(f"the conversion of {model.id} was stopped, and nothing of it is left") from None
        made = library.registry.add(place)
    done = {
        "event": "ready",
        "model": made.id,
        "path": str(place),
        "size": made.info.size_bytes,
        "from": {"model": model.id, "size": model.info.size_bytes},
    }
    if session.flags.json:
        render.emit(done)
        return None
    return said(done, *_told(done))


def _told(done: Mapping[str, Any]) -> tuple[str, ...]:
    source = done["from"]
    sizes = f"{words.size(done['size'])}, made of {words.size(source['size'])}"
    return f"{done['model']} is in {done['path']} ({sizes})", f"try it: uml run {done['model']}"


def _onnx(library: Library, model: Model, out: Path | None, precision: str, tell: Tell) -> Path:
    from uml.core.errors import EngineNotInstalled
    from uml.runtime.conversions import onnx

    wanted = precision or "int4"
    if wanted not in onnx.PRECISIONS:
        raise typer.BadParameter(f"--precision is {precision!r}; expected one of {', '.join(onnx.PRECISIONS)}")
    onnx.check(model.id, model.info)
    builder = library.installs.find(onnx.BUILDER)
    if builder is None:
        raise EngineNotInstalled(onnx.BUILDER, f"making ONNX of {model.id}", f"uml engine install {onnx.BUILDER}")
    place = out or library.settings.data / "models" / f"{model.id}-onnx-{wanted}"
    return onnx.convert(onnx.Order(model.id, model.info, wanted, place, builder), tell)


CONVERSIONS: Final[Mapping[str, Convert]] = {"onnx": _onnx}
"""What `--to` takes."""
