"""converted(library, model, wish): a model of another format made of one. It blocks while it works, and tells of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.errors import BadRequest, EngineNotInstalled
from uml.core.model import Format, Model
from uml.core.quote import quoted
from uml.house import Library
from uml.runtime.conversions import legacy, onnx, quantize, safetensors, script
from uml.runtime.conversions.gguf import make
from uml.runtime.conversions.gguf.recipe import PRECISIONS
from uml.runtime.conversions.workshop import Making
from uml.workbench.telling import Cancelled, Tell, cores, progress


@dataclass(frozen=True, slots=True)
class Converting:
    """What to make of a model.

    to: of `CONVERSIONS`. out: where it goes; None: models in the data folder. precision: empty for the usual.
    converter, python: a script of a llama.cpp checkout and an interpreter with torch, of the user's. threads: 0 for
    all cores.
    """

    to: str
    out: Path | None = None
    precision: str = ""
    converter: Path | None = None
    python: Path | None = None
    threads: int = 0


@dataclass(frozen=True, slots=True)
class _Work:
    """One conversion under way. heard: how far it is; warn: in what the new model differs."""

    library: Library
    model: Model
    wish: Converting
    heard: Callable[[Making], None]
    warn: Callable[[str], None]
    cancelled: Cancelled

    @property
    def threads(self) -> int:
        """Cores to use."""
        return self.wish.threads or cores()

    def place(self, name: str) -> Path:
        """Where a new file or folder of this name goes: where it was asked to, or in the data folder."""
        out = self.wish.out
        if out is None:
            return self.library.settings.data / "models" / name
        return out / name if out.is_dir() and name.endswith(".gguf") else out

    def torch(self, needed_for: str) -> Path:
        """An interpreter with torch. Raises EngineNotInstalled, BadRequest."""
        given = self.wish.python
        if given:
            if not given.is_file():
                raise BadRequest(f"python is {quoted(str(given))}; expected the path of an interpreter", param="python")
            return given
        install = self.library.installs.find("transformers")
        if install is None:
            raise EngineNotInstalled("transformers", needed_for, "uml engine install transformers")
        return install.python


def converted(
    library: Library, model: Model, wish: Converting, tell: Tell, cancelled: Cancelled = lambda: False
) -> dict[str, Any]:
    """Make it and register it: `model`, `path`, `size`, `role` and `from`. Nothing is left of one that fails, or is
    stopped.

    Raises BadRequest for what the format has no use for, EngineNotInstalled, and what the conversion does.
    """
    check(wish)

    def warn(text: str) -> None:
        tell({"event": "warning", "text": text})

    heard = progress(tell, f"{model.id} to {wish.to}")
    place = CONVERSIONS[wish.to](_Work(library, model, wish, heard, warn, cancelled))
    made = library.registry.add(place)
    source = {"model": model.id, "size": model.info.size_bytes}
    about = {"model": made.id, "path": str(place), "size": made.info.size_bytes, "role": made.info.role.value}
    return {**about, "from": source}


def check(wish: Converting) -> None:
    """Refuse what the format has no use for. Raises BadRequest."""
    if wish.to not in CONVERSIONS:
        raise BadRequest(f"the format is {quoted(wish.to)}; expected one of {', '.join(CONVERSIONS)}", param="to")
    gguf = wish.to == "gguf"
    useless = {
        "precision": wish.to == "safetensors" and wish.precision,
        "converter": not gguf and wish.converter,
        "python": (wish.to == "onnx" or (gguf and not wish.converter)) and wish.python,
        "threads": (not gguf or wish.converter) and wish.threads,
    }
    for name, given in useless.items():
        if given:
            raise BadRequest(f"{name} means nothing for {wish.to}" + (" alone" if gguf else ""), param=name)


def _precision(given: str, known: tuple[str, ...]) -> BadRequest:
    return BadRequest(f"the precision is {quoted(given)}; expected one of {', '.join(known)}", param="precision")


def _gguf(work: _Work) -> Path:
    wish, model = work.wish, work.model
    if wish.converter:
        return _by_script(work, wish.converter)
    if model.info.format is Format.GGML:
        return _of_before(work)
    named = quantize.ALSO.get(wish.precision.upper(), wish.precision.upper())
    if named and named not in PRECISIONS:
        raise _precision(wish.precision, tuple(kind.lower() for kind in PRECISIONS))
    kind = named or make.usual_kind(model.id, model.info)
    place = work.place(f"{model.id}-{kind.lower()}.gguf")
    order = make.Order(model.id, model.info, kind, place, work.threads)
    return make.convert(order, work.heard, work.warn, work.cancelled)


def _of_before(work: _Work) -> Path:
    """From GGML, GGMF or GGJT."""
    wish, model = work.wish, work.model
    if wish.precision:
        raise BadRequest(
            f"precision means nothing here: {model.info.version} keeps its weights; `uml quantize` packs them anew",
            param="precision",
        )
    if wish.threads:
        work.warn(f"threads are not heeded: one core moves the weights of {model.info.version}")
    for note in model.info.notes[1:]:
        work.warn(note)
    place = work.place(f"{model.id}.gguf")
    return legacy.convert(legacy.Order(model.id, model.info, place), work.heard, work.cancelled)


def _by_script(work: _Work, converter: Path) -> Path:
    model, precision = work.model, work.wish.precision or "auto"
    if precision not in script.PRECISIONS:
        raise _precision(precision, tuple(script.PRECISIONS))
    script.check(converter)
    python = work.torch(f"running {converter.name}")
    order = script.Order(model.id, model.info, precision, work.place(f"{model.id}-{precision}.gguf"), converter, python)
    return script.convert(order, work.heard, work.cancelled)


def _safetensors(work: _Work) -> Path:
    model = work.model
    safetensors.check(model.info)
    order = safetensors.Order(
        model.id, model.info, work.place(f"{model.id}-safetensors"), work.torch(f"reading {model.id}")
    )
    return safetensors.convert(order, work.heard, work.cancelled)


def _onnx(work: _Work) -> Path:
    model, wanted = work.model, work.wish.precision or "int4"
    if wanted not in onnx.PRECISIONS:
        raise _precision(wanted, tuple(onnx.PRECISIONS))
    onnx.check(model.id, model.info)
    builder = work.library.installs.find(onnx.BUILDER)
    if builder is None:
        raise EngineNotInstalled(onnx.BUILDER, f"making ONNX of {model.id}", f"uml engine install {onnx.BUILDER}")
    order = onnx.Order(model.id, model.info, wanted, work.place(f"{model.id}-onnx-{wanted}"), builder)
    return onnx.convert(order, work.heard, work.cancelled)


CONVERSIONS: Final[Mapping[str, Callable[[_Work], Path]]] = {
    "gguf": _gguf,
    "safetensors": _safetensors,
    "onnx": _onnx,
}
"""Formats that something is made into."""
