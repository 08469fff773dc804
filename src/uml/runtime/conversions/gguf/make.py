"""A folder of safetensors as a GGUF file: checked, written piece by piece, read by llama.cpp, and put in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from uml.core.errors import ConversionFailed, UnsupportedArchitecture, UnsupportedFormat
from uml.core.model import Format, ModelInfo, Role
from uml.runtime.conversions.gguf.families import FAMILIES, OTHERWISE, Family
from uml.runtime.conversions.gguf.recipe import Planned, kept_as, planned
from uml.runtime.conversions.gguf.rope import Uncomputed, Untold
from uml.runtime.conversions.gguf.source import Source, read_source
from uml.runtime.conversions.gguf.stored import readable
from uml.runtime.conversions.packing import write
from uml.runtime.conversions.proof import prove
from uml.runtime.conversions.workshop import Making, trouble, workshop

ROLES: Final = (Role.TEXT, Role.EMBEDDING, Role.RERANKER)
INSTEAD = "a checkout of llama.cpp may have it: --converter PATH/convert_hf_to_gguf.py"
AS_IT_IS = "the engine transformers runs it as it is"
WANTED: Final = "does not become GGUF"


@dataclass(frozen=True, slots=True)
class Order:
    """What to make of which model, and where.

    name: of the model, for sentences. kind: of `recipe.PRECISIONS`. place: the file that is made. threads: at least 1.
    more: metadata that go before those of the folder, as `gguf_values` writes them.
    """

    name: str
    info: ModelInfo
    kind: str
    place: Path
    threads: int
    more: Mapping[str, bytes] = field(default_factory=dict)


def check(name: str, info: ModelInfo) -> Family:
    """Whether it can be made into GGUF here, and how. Raises UnsupportedFormat, UnsupportedArchitecture."""
    method = info.quantization.method if info.quantization else "none"
    if info.format is not Format.SAFETENSORS or info.role not in ROLES or not readable(info.quantization):
        label = f" ({info.quantization.label})" if info.quantization and method != "none" else ""
        instead = {
            Format.PYTORCH: f"; first: uml convert {name} --to safetensors",
            Format.GGUF: f"; a smaller file of it: uml quantize {name} --to KIND",
        }.get(info.format, f"; {AS_IT_IS}, at /v1/classify" if info.role is Role.CLASSIFIER else "")
        raise UnsupportedFormat(
            info.path,
            f"it is {info.format}{label} for {info.role}; into GGUF go models for text, embedding or reranking, as "
            f"safetensors, plain or of FP8, in a folder with config.json and tokenizer{instead}",
        )
    if reason := OTHERWISE.get(info.architecture):
        told = f"llama.cpp cannot be told of {reason} ({info.architecture}); {AS_IT_IS}"
        raise UnsupportedArchitecture(name, told, wanted=WANTED)
    family = FAMILIES.get(info.architecture)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedArchitecture(
            name,
            f"{info.architecture or 'its architecture'} is not among those that become GGUF: {known}; {INSTEAD}",
            wanted=WANTED,
        )
    return family


def usual_kind(name: str, info: ModelInfo) -> str:
    """The kind of file that loses nothing. Raises as `check` does, BadFile, CorruptFile."""
    check(name, info)
    return kept_as(read_source(name, info))


def plan(order: Order) -> Planned:
    """What will be written. Raises as `check` does, BadFile, CorruptFile."""
    family = check(order.name, order.info)
    source: Source = read_source(title(order.info.name), order.info)
    try:
        return planned(family, source, order.kind, order.more)
    except Untold as error:
        instead = AS_IT_IS if isinstance(error, Uncomputed) else INSTEAD
        raise UnsupportedArchitecture(
            order.name, f"llama.cpp cannot be told of {error} ({order.info.architecture}); {instead}", wanted=WANTED
        ) from error


def title(name: str) -> str:
    """A name for people out of a folder's: without its owner, spaces for dashes."""
    return name.rpartition("/")[2].replace("-", " ").replace("_", " ").strip() or "model"


def convert(
    order: Order,
    tell: Callable[[Making], None],
    warn: Callable[[str], None],
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Make it, prove that llama.cpp takes it, and put it in its place; takes seconds to many minutes.

    warn: hears in what it differs from the original. Whatever ends it before, nothing of it is left. Raises
    UnsupportedFormat, UnsupportedArchitecture, CorruptFile, BadFile, BadRequest, NoRoom, OutOfMemory,
    ConversionFailed, Cancelled.
    """
    made = plan(order)
    try:
        with workshop(f"{order.name} as {order.kind}", order.place, made.recipe.size_bytes) as shop:
            for note in made.notes:
                warn(note)
            file = shop / order.place.name
            write(order.name, made.recipe, file, order.threads, tell, cancelled)
            tell(Making("reading what was made", 99))
            prove(order.name, file, cancelled)
            file.rename(order.place)
    except OSError as error:
        raise ConversionFailed(order.name, trouble(error, order.place)) from error
    tell(Making("done", 100))
    return order.place
