"""A LLaMA file from before GGUF as GGUF: explicitly by `uml convert`, or by itself before it is first loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.errors import ConversionFailed, UnsupportedFormat
from uml.core.model import Format, ModelInfo
from uml.formats.gguf.head import ALIGNMENT, padded
from uml.formats.gguf.header import TensorInfo
from uml.formats.gguf.tables import TENSOR_TYPE_IDS
from uml.formats.legacy.file import LegacyTensor, NotLlama, read_file
from uml.formats.legacy.model import is_convertible
from uml.formats.legacy.to_gguf import becoming, head_of
from uml.runtime.conversions.packing import Confine, Recipe, write
from uml.runtime.conversions.workshop import Making, trouble, workshop

CHILD: Final = ("-P", "-m", "uml.runtime.conversions.legacy_child")
_ALIKE: Final[Mapping[str, str]] = {"Q4_2": "Q4_0", "Q4_3": "Q4_1"}


@dataclass(frozen=True, slots=True)
class Order:
    """What to make GGUF of, and where. name: of the model, for sentences. place: the file that is made."""

    name: str
    info: ModelInfo
    place: Path


def check(name: str, info: ModelInfo) -> None:
    """Whether it can be made into GGUF. Raises UnsupportedFormat."""
    if not is_convertible(info):
        seen = info.reason if info.format is Format.GGML else f"it is {info.format}"
        raise UnsupportedFormat(info.path, f"{seen}; of the formats before GGUF, LLaMA models are made into it")


def recipe(info: ModelInfo) -> Recipe:
    """The new file. Raises CorruptFile, MissingShard, BadFile, UnsupportedFormat."""
    try:
        old = read_file(info.path, vocabulary=True)
    except NotLlama as error:
        raise UnsupportedFormat(info.path, f"it is not what it was: {error.seen}") from error
    new = becoming(old, info.path.stem)
    start = head_of(old, new)
    tensors = tuple(piece for made, tensor in new.moves for piece in _pieces(made, tensor, len(start)))
    return Recipe(start, len(start) + padded(new.header.data_end, ALIGNMENT), tensors)


def _pieces(made: TensorInfo, old: LegacyTensor, start: int) -> list[dict[str, Any]]:
    """A tensor's way from the old file to the new one; of rows that lie in several files, a way each."""
    rows = old.shape[1] if len(old.shape) > 1 else 1
    groups = [old.pieces] if old.by_columns else [(piece,) for piece in old.pieces]
    share, size = rows // len(groups), made.size_bytes // len(groups)
    return [
        {
            "name": made.name,
            "sources": [(str(piece.path), piece.offset) for piece in group],
            "rows": share,
            "columns": old.shape[0],
            "coding": list(old.coding),
            "from": TENSOR_TYPE_IDS[_ALIKE.get(old.coding.name, old.coding.name)],
            "to": made.type,
            "at": start + made.offset + number * size,
        }
        for number, group in enumerate(groups)
    ]


def convert(
    order: Order,
    tell: Callable[[Making], None],
    cancelled: Callable[[], bool] = lambda: False,
    confine: Confine = lambda launch: launch,
) -> Path:
    """Make it, read its head, and put it in its place; takes seconds to minutes.

    confine: how the process that moves the weights is kept in; this one reads what stands before them.

    Whatever ends it before, nothing of it is left. Raises UnsupportedFormat, CorruptFile, MissingShard, BadFile,
    BadRequest, NoRoom, OutOfMemory, ConversionFailed, Cancelled.
    """
    check(order.name, order.info)
    made = recipe(order.info)
    try:
        with workshop(f"{order.name} as GGUF", order.place, made.size_bytes) as shop:
            file = shop / order.place.name
            write(order.name, made, file, 1, tell, cancelled, program=CHILD, confine=confine)
            file.rename(order.place)
    except OSError as error:
        raise ConversionFailed(order.name, trouble(error, order.place)) from error
    tell(Making("done", 100))
    return order.place
