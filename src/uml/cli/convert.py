"""`uml convert`: a model made of another, in another format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uml.cli import making, render, words
from uml.cli.arguments import Model
from uml.cli.command import command
from uml.cli.names import expanded, name_for
from uml.cli.progress import followed
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.core.errors import Cancelled

if TYPE_CHECKING:
    from uml.workbench import Converting

_To = Annotated[str, typer.Option("--to", metavar="FORMAT", help="What it becomes: gguf, safetensors or onnx")]
_Out = Annotated[
    Path | None, typer.Option("--out", metavar="PATH", help="Where it goes; without, models in the data folder")
]
_Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="How weights are kept: for gguf f32, f16, bf16 (the usual is what they are), q8_0, and the kinds of "
        "`uml quantize` that need no importance matrix; for onnx int4 (the usual), int8, fp32",
    ),
]
_Converter = Annotated[
    Path | None,
    typer.Option(
        "--converter", metavar="SCRIPT", help="For gguf: convert_hf_to_gguf.py of a llama.cpp checkout does it"
    ),
]
_Python = Annotated[
    Path | None,
    typer.Option(
        "--python", metavar="PATH", help="An interpreter with torch; without, that of the engine transformers"
    ),
]
_Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="For gguf: cores to use; without, all")
]


@command()
def convert(
    session: Session,
    name: Model,
    to: _To,
    out: _Out = None,
    precision: _Precision = "",
    converter: _Converter = None,
    python: _Python = None,
    threads: _Threads = None,
) -> Result | None:
    """Make a model of another format out of one.

    The new model is in `uml ls` afterwards, and loads as every other. The old one stays as it is. Nothing is left of
    a conversion that fails or is stopped. With --json every step is one line.

    gguf: folders of safetensors become one file for llama.cpp. Weights are read piece by piece, so that a model larger
    than the memory can be converted; docs/conversions.md has the architectures. For others, --converter takes the
    script of a llama.cpp checkout, which runs in the environment of the engine transformers or in --python. LLaMA
    files of GGML, GGMF and GGJT become GGUF too; without this, they do by themselves when they are first loaded.

    safetensors: PyTorch checkpoints (.bin, .pt) become safetensors, and each tensor is compared. Nothing but tensors is
    unpickled. It needs torch: `uml engine install transformers`, or --python.

    onnx: folders of safetensors become folders of ONNX Runtime GenAI. That library's builder needs an environment of
    its own, once: `uml engine install onnx-builder`; what it makes runs in `uml engine install onnx`.

    With --server it is done there, and goes into the data folder of that machine.
    """
    from uml.workbench import Converting

    wish = Converting(to, _placed(out), precision.lower(), _placed(converter), _placed(python), threads or 0)
    with making.shown(session, f"{name} to {to}") as tell:
        try:
            done = (_there if session.flags.server else _here)(session, name, wish, tell)
        except KeyboardInterrupt:
            raise Cancelled(f"the conversion of {name} was stopped, and nothing of it is left") from None
    result = {"event": "ready", **done}
    if session.flags.json:
        render.emit(result)
        return None
    return said(result, *_told(result))


def _here(session: Session, name: str, wish: Converting, tell: making.Tell) -> dict[str, Any]:
    from uml import workbench

    with session.library() as library:
        return workbench.converted(library, making.source(library, name), wish, tell)


def _there(session: Session, name: str, wish: Converting, tell: making.Tell) -> dict[str, Any]:
    for option, given in (("--out", wish.out), ("--converter", wish.converter), ("--python", wish.python)):
        if given:
            raise typer.BadParameter(f"{option} means nothing with --server: it would be of another machine")
    with session.client() as client:
        name = name_for(client, name)
        return followed(client.convert(name, wish.to, precision=wish.precision, threads=wish.threads), tell)


def _told(done: Mapping[str, Any]) -> tuple[str, ...]:
    source = done["from"]
    sizes = f"{words.size(done['size'])}, made of {words.size(source['size'])}"
    return f"{done['model']} is in {done['path']} ({sizes})", making.hint(done["model"], done.get("role", ""))


def _placed(path: Path | None) -> Path | None:
    return expanded(path).absolute() if path else None
