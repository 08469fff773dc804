"""`uml convert`: a model made of another, in another format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked besides the format. precision: empty for the usual. converter, python: of others."""

    out: Path | None
    precision: str
    converter: Path | None
    python: Path | None
    threads: int


Convert = Callable[["Library", "Model", Asked, Tell, Warn], Path]
"""From a model to where the new one lies; hears how far it is, and tells in what the new one differs."""

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
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="What it becomes: gguf, safetensors or onnx")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="Where it goes; without, models in the data folder"),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="NAME",
            help="How weights are kept: for gguf f32, f16, bf16 (the usual is what they are), q8_0, and the kinds of "
            "`uml quantize` that need no importance matrix; for onnx int4 (the usual), int8, fp32",
        ),
    ] = "",
    converter: Annotated[
        Path | None,
        typer.Option(
            "--converter", metavar="SCRIPT", help="For gguf: convert_hf_to_gguf.py of a llama.cpp checkout does it"
        ),
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(
            "--python", metavar="PATH", help="An interpreter with torch; without, that of the engine transformers"
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=1024, help="For gguf: cores to use; without, all")
    ] = None,
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
    """
    make = CONVERSIONS.get(to)
    if make is None:
        raise typer.BadParameter(f"--to is {to!r}; expected one of {', '.join(CONVERSIONS)}")
    asked = Asked(_placed(out), precision.lower(), _placed(converter), _placed(python), threads or _cores())
    _only(to, asked, threads)
    with session.library() as library, install_bar(f"{name} to {to}", quiet=session.flags.json) as update:
        path = as_path(name)
        model = library.registry.add(path) if path else library.registry.fresh(library.registry.resolve(name))

        def tell(making: Making) -> None:
            event = {"event": "progress", "text": making.text, "percent": making.percent}
            render.emit(event) if session.flags.json else update(event)

        def warn(text: str) -> None:
            render.emit({"event": "warning", "text": text}) if session.flags.json else render.note(text)

        try:
            place = make(library, model, asked, tell, warn)
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


def _placed(path: Path | None) -> Path | None:
    return expanded(path).absolute() if path else None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _only(to: str, asked: Asked, threads: int | None) -> None:
    """Refuse what the format has no use for. Raises BadParameter."""
    useless = {
        "--precision": to == "safetensors" and asked.precision,
        "--converter": to != "gguf" and asked.converter,
        "--python": (to == "onnx" or (to == "gguf" and not asked.converter)) and asked.python,
        "--threads": (to != "gguf" or asked.converter) and threads,
    }
    for option, given in useless.items():
        if given:
            raise typer.BadParameter(f"{option} means nothing for --to {to}" + (" alone" if to == "gguf" else ""))


def _place(library: Library, asked: Asked, name: str) -> Path:
    """Where a new file or folder of this name goes: where it was asked to, or in the data folder."""
    if asked.out is None:
        return library.settings.data / "models" / name
    return asked.out / name if asked.out.is_dir() and name.endswith(".gguf") else asked.out


def _torch(library: Library, asked: Asked, needed_for: str) -> Path:
    """An interpreter with torch. Raises EngineNotInstalled, BadParameter."""
    from uml.core.errors import EngineNotInstalled

    if asked.python:
        if not asked.python.is_file():
            raise typer.BadParameter(f"--python is {str(asked.python)!r}; expected the path of an interpreter")
        return asked.python
    install = library.installs.find("transformers")
    if install is None:
        raise EngineNotInstalled("transformers", needed_for, "uml engine install transformers")
    return install.python


def _gguf(library: Library, model: Model, asked: Asked, tell: Tell, warn: Warn) -> Path:
    from uml.runtime.conversions.gguf import make
    from uml.runtime.conversions.gguf.recipe import PRECISIONS

    if asked.converter:
        return _by_script(library, model, asked, tell)
    if model.info.format == "ggml":
        return _of_before(library, model, asked, tell, warn)
    if asked.precision and asked.precision.upper() not in PRECISIONS:
        known = ", ".join(kind.lower() for kind in PRECISIONS)
        raise typer.BadParameter(f"--precision is {asked.precision!r}; expected one of {known}")
    kind = asked.precision.upper() or make.usual_kind(model.id, model.info)
    place = _place(library, asked, f"{model.id}-{kind.lower()}.gguf")
    return make.convert(make.Order(model.id, model.info, kind, place, asked.threads), tell, warn)


def _of_before(library: Library, model: Model, asked: Asked, tell: Tell, warn: Warn) -> Path:
    """From GGML, GGMF or GGJT."""
    from uml.runtime.conversions import legacy

    if asked.precision:
        raise typer.BadParameter(
            f"--precision means nothing here: {model.info.version} keeps its weights; `uml quantize` packs them anew"
        )
    if asked.threads != _cores():
        warn(f"--threads is not heeded: one core moves the weights of {model.info.version}")
    for note in model.info.notes[1:]:
        warn(note)
    return legacy.convert(legacy.Order(model.id, model.info, _place(library, asked, f"{model.id}.gguf")), tell)


def _by_script(library: Library, model: Model, asked: Asked, tell: Tell) -> Path:
    from uml.runtime.conversions import script

    assert asked.converter
    precision = asked.precision or "auto"
    if precision not in script.PRECISIONS:
        raise typer.BadParameter(f"--precision is {precision!r}; expected one of {', '.join(script.PRECISIONS)}")
    script.check(asked.converter)
    python = _torch(library, asked, f"running {asked.converter.name}")
    place = _place(library, asked, f"{model.id}-{precision}.gguf")
    return script.convert(script.Order(model.id, model.info, precision, place, asked.converter, python), tell)


def _safetensors(library: Library, model: Model, asked: Asked, tell: Tell, warn: Warn) -> Path:
    from uml.runtime.conversions import safetensors

    safetensors.check(model.info)
    python = _torch(library, asked, f"reading {model.id}")
    place = _place(library, asked, f"{model.id}-safetensors")
    return safetensors.convert(safetensors.Order(model.id, model.info, place, python), tell)


def _onnx(library: Library, model: Model, asked: Asked, tell: Tell, warn: Warn) -> Path:
    from uml.core.errors import EngineNotInstalled
    from uml.runtime.conversions import onnx

    wanted = asked.precision or "int4"
    if wanted not in onnx.PRECISIONS:
        raise typer.BadParameter(f"--precision is {asked.precision!r}; expected one of {', '.join(onnx.PRECISIONS)}")
    onnx.check(model.id, model.info)
    builder = library.installs.find(onnx.BUILDER)
    if builder is None:
        raise EngineNotInstalled(onnx.BUILDER, f"making ONNX of {model.id}", f"uml engine install {onnx.BUILDER}")
    place = _place(library, asked, f"{model.id}-onnx-{wanted}")
    return onnx.convert(onnx.Order(model.id, model.info, wanted, place, builder), tell)


CONVERSIONS: Final[Mapping[str, Convert]] = {"gguf": _gguf, "safetensors": _safetensors, "onnx": _onnx}
"""What `--to` takes."""
