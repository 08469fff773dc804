"""quantized(library, model, wish): a GGUF model in smaller files. It blocks while it works, and tells how far it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.errors import BadRequest
from uml.core.model import Model
from uml.engines.llamacpp.mixture import BY_MATRIX, KINDS
from uml.formats.gguf.file import PartName
from uml.formats.gguf.imatrix import ImportanceMatrix, read_matrix
from uml.house import Library
from uml.registry.names import unquantized
from uml.runtime.conversions import perplexity, quantize
from uml.workbench.telling import Cancelled, Tell, cores, progress

_SOME: Final = 5


@dataclass(frozen=True, slots=True)
class Quantizing:
    """What to make of a GGUF model.

    kinds: as `kinds_of` gives them. folder: where the files go; None: models in the data folder. text: that the old
    and the new models read. matrix: a file with the importance of columns. threads: 0 for all cores.
    """

    kinds: tuple[str, ...]
    folder: Path | None = None
    text: Path | None = None
    matrix: Path | None = None
    threads: int = 0


def kinds_of(words: Iterable[str], *, matrix: bool) -> tuple[str, ...]:
    """The kinds of file that were asked for, each once, in capitals. Raises BadRequest."""
    named = (word.strip().upper() for word in words if word.strip())
    kinds = tuple(dict.fromkeys(quantize.ALSO.get(name, name) for name in named))
    if not kinds:
        known = ", ".join(name.lower() for name in (*KINDS, *BY_MATRIX))
        raise BadRequest(f"no kind is named; expected one or several of {known}", param="to")
    for kind in kinds:
        quantize.check_kind(kind, matrix=matrix)
    return kinds


def quantized(
    library: Library, model: Model, wish: Quantizing, tell: Tell, cancelled: Cancelled = lambda: False
) -> dict[str, Any]:
    """Make the files, one for each kind, and register them: `from` and `made`, with sizes and perplexities.

    Nothing is left of a file that fails or is stopped; those that were made before it stay. Raises what
    `quantize.quantize` does, and BadFile for a text or a matrix that is none.
    """
    quantize.check(model.id, model.info)
    if wish.text:
        perplexity.check(wish.text)
    matrix = read_matrix(wish.matrix) if wish.matrix else None
    _warn(model, wish, matrix, tell)
    threads = wish.threads or cores()
    folder = wish.folder or library.settings.data / "models"
    reading = _Reading(wish.text, threads, tell, cancelled)
    source = {"model": model.id, "size": model.info.size_bytes, **reading.of(model)}
    made: list[dict[str, Any]] = []
    for kind in wish.kinds:
        place = folder / f"{stem(model.info.path)}-{kind}.gguf"
        order = quantize.Order(model.id, model.info, kind, place, threads, matrix)
        quantize.quantize(order, progress(tell, f"{model.id} to {kind}"), cancelled)
        new = library.registry.add(place)
        about = {"kind": kind, "model": new.id, "path": str(place), "role": new.info.role.value}
        done = {**about, "size": new.info.size_bytes, **reading.of(new)}
        made.append(done)
        tell({"event": "made", **done})
    return {"from": source, "made": made}


def _warn(model: Model, wish: Quantizing, matrix: ImportanceMatrix | None, tell: Tell) -> None:
    if warned := quantize.warning(model.info):
        tell({"event": "warning", "text": warned})
    if matrix is None:
        return
    names = dict.fromkeys(name for kind in wish.kinds for name in quantize.unweighed(model.info, kind, matrix))
    if names:
        some = ", ".join([*names][:_SOME]) + (", ..." if len(names) > _SOME else "")
        text = f"{matrix.path.name} has nothing of {len(names)} matrices, which are packed without it: {some}"
        tell({"event": "warning", "text": text})


@dataclass(frozen=True, slots=True)
class _Reading:
    """Lets models read a text, where there is one."""

    text: Path | None
    threads: int
    tell: Tell
    cancelled: Cancelled

    def of(self, model: Model) -> dict[str, Any]:
        """`perplexity` and `tokens`; nothing without a text, and None where it could not be had."""
        if self.text is None:
            return {}
        try:
            found = perplexity.measure(
                model.info, self.text, self.threads, progress(self.tell, model.id), self.cancelled
            )
        except perplexity.NotMeasured as error:
            self.tell({"event": "warning", "text": f"the perplexity of {model.id} could not be measured: {error}"})
            return {"perplexity": None}
        return {"perplexity": found.value, "tokens": found.tokens}


def stem(path: Path) -> str:
    """What the new files' names begin with: that of the source, without its part and kind."""
    part = PartName.of(path)
    return unquantized(part.stem if part else path.stem)
