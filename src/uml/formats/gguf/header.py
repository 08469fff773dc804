"""The header of one GGUF file: metadata and tensor table, bounded and checked as llama.cpp checks them.

Layout (all versions): magic, version u32, tensor count, metadata count, key-value pairs, tensor
infos, padding, weights. Version 2 made counts u64; version 3 added big endian files. Source: ggml's
docs/gguf.md and gguf.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from uml.core.errors import CorruptFile, UnsupportedFormat
from uml.core.model import Scalar
from uml.formats.gguf.tables import REMOVED_TENSOR_TYPES, TENSOR_TYPES
from uml.formats.reader import TEXT_BUDGET, Cursor, opened

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 65_536
MAX_TENSORS = 65_536
MAX_NAME = 65_535
"""Bytes of a key or tensor name."""
MAX_TEXT = 1 << 20
"""Bytes of a string value that is copied; longer ones are stepped over."""
MAX_ARRAY = 4096
"""Entries of a numeric array that is copied: one a layer, with room."""
MAX_ARRAY_TOTAL = 1 << 18
MAX_DIMENSIONS = 4
MAX_UNKNOWN_TYPE = 1024
"""Types of forks lie below this; a number above it was never a type."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a number by its type in a file."""
_STRING, _ARRAY = 8, 9


class TensorInfo(NamedTuple):
    """A tensor: sizes fastest first, offset from the start of the weights."""

    name: str
    shape: tuple[int, ...]
    elements: int
    type: int
    offset: int
    size_bytes: int
    """0 for a type that is not in our table."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the header of one file says.

    arrays: numeric arrays that are short; lengths: entries of every array.
    data_start: offset of the weights; data_end: where the last tensor ends.
    """

    path: Path
    size_bytes: int
    version: int
    big_endian: bool
    metadata: dict[str, Scalar]
    arrays: dict[str, tuple[int | float | bool, ...]]
    lengths: dict[str, int]
    tensors: tuple[TensorInfo, ...]
    data_start: int
    data_end: int
    notes: tuple[str, ...] = ()

    def integer(self, key: str, default: int = 0) -> int:
        """A whole number of the metadata; the default where there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def text(self, key: str) -> str:
        """A text of the metadata; empty where there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""


@dataclass(slots=True)
class _Metadata:
    """The key-value pairs while they are read."""

    values: dict[str, Scalar] = field(default_factory=dict)
    arrays: dict[str, tuple[int | float | bool, ...]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    array_entries: int = 0


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of one GGUF file.

    Raises CorruptFile where it is not what the format says, or the file is shorter than its tensors;
    UnsupportedFormat for a version that no engine reads; BadFile where it cannot be opened.
    """
    with opened(path) as (file, size):
        cursor = Cursor(path, file, size)
        version, big_endian = _version(cursor)
        tensor_count = cursor.number("Q", "the tensor count")
        key_count = cursor.number("Q", "the metadata count")
        _bound(cursor, tensor_count, MAX_TENSORS, 24, "tensors")
        _bound(cursor, key_count, MAX_KEYS, 13, "metadata entries")
        metadata = _Metadata()
        for _ in range(key_count):
            _read_pair(cursor, metadata)
        alignment = _alignment(cursor, metadata)
        tensors = tuple(_read_tensor(cursor) for _ in range(tensor_count))
        data_start = -(-cursor.at // alignment) * alignment
    data_end = _check_tensors(path, tensors, data_start, alignment, size)
    if unknown := sorted({tensor.type for tensor in tensors} - TENSOR_TYPES.keys()):
        metadata.notes.append(
            f"tensor types {', '.join(map(str, unknown))} are not llama.cpp's; a fork wrote this file"
        )
    return GgufHeader(
        path, size, version, big_endian, metadata.values, metadata.arrays, metadata.lengths,
        tensors, data_start, data_end, tuple(metadata.notes),
    )  # fmt: skip


def _version(cursor: Cursor) -> tuple[int, bool]:
    """Version and whether the file is big endian; sets the cursor's byte order."""
    cursor.skip(len(MAGIC), "the magic")
    version = cursor.number("I", "the version")
    big_endian = version & 0xFFFF == 0
    if big_endian:
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
        cursor.order = ">"
    if version == 1:
        raise UnsupportedFormat(
            cursor.path, "GGUF version 1, from August 2023, is read by no engine; download or convert the model anew"
        )
    if version not in VERSIONS:
        if 0 < version < 100:
            raise UnsupportedFormat(cursor.path, f"GGUF version {version}; versions 2 and 3 are known")
        raise CorruptFile(cursor.path, f"GGUF version {version}", "2 or 3", 4)
    return version, big_endian


def _bound(cursor: Cursor, count: int, limit: int, least_bytes: int, what: str) -> None:
    if count > limit:
        raise CorruptFile(cursor.path, f"the header claims {count} {what}", f"at most {limit}", 8)
    cursor.check_count(count, least_bytes, f"the number of {what}")


def _read_pair(cursor: Cursor, into: _Metadata) -> None:
    begin = cursor.at
    key = _name(cursor, "a metadata key")
    if key in into.values or key in into.lengths:
        raise CorruptFile(cursor.path, f"the key {key!r} comes twice", "each key once", begin)
    kind = cursor.number("I", f"the type of {key}")
    if code := _SCALARS.get(kind):
        into.values[key] = cursor.scalar(code, key)
    elif kind == _STRING:
        _read_text(cursor, key, into)
    elif kind == _ARRAY:
        _read_array(cursor, key, into)
    else:
        raise CorruptFile(cursor.path, f"the key {key!r} has value type {kind}", "0 to 12", cursor.at - 4)


def _name(cursor: Cursor, what: str) -> str:
    begin = cursor.at
    name = cursor.string(what, MAX_NAME)
    if name is None:
        raise CorruptFile(
            cursor.path, f"{what} is too long", f"{MAX_NAME} bytes, and {TEXT_BUDGET >> 20} MiB of text in all", begin
        )
    return name


def _read_text(cursor: Cursor, key: str, into: _Metadata) -> None:
    begin = cursor.at
    text = cursor.string(key, MAX_TEXT)
    if text is None:
        into.notes.append(f"the value of {key} has {cursor.at - begin - 8} bytes and was left out")
    else:
        into.values[key] = text


def _read_array(cursor: Cursor, key: str, into: _Metadata) -> None:
    begin = cursor.at
    kind = cursor.number("I", f"the entry type of {key}")
    count = cursor.number("Q", f"the length of {key}")
    into.lengths[key] = count
    if kind == _STRING:
        cursor.skip_strings(count, key)
        return
    if kind not in _SCALARS:
        raise CorruptFile(cursor.path, f"the array {key!r} has entry type {kind}", "a number or a string", begin)
    cursor.check_count(count, WIDTHS[kind], key)
    if count <= min(MAX_ARRAY, MAX_ARRAY_TOTAL - into.array_entries):
        into.array_entries += count
        into.arrays[key] = cursor.numbers(_SCALARS[kind], count, key)
    else:
        cursor.skip(count * WIDTHS[kind], key)


def _alignment(cursor: Cursor, metadata: _Metadata) -> int:
    """Bytes; a power of two, 32 where the file does not say."""
    value = metadata.values.get("general.alignment", 32)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1 << 20 or value & (value - 1):
        raise CorruptFile(cursor.path, f"general.alignment is {value!r}", "a power of two up to 1048576")
    return value


def _read_tensor(cursor: Cursor) -> TensorInfo:
    begin = cursor.at
    name = _name(cursor, "a tensor name")
    rank = cursor.number("I", f"the rank of {name}")
    if rank > MAX_DIMENSIONS:
        raise CorruptFile(cursor.path, f"the tensor {name!r} has {rank} dimensions", f"at most {MAX_DIMENSIONS}", begin)
    shape = tuple(int(size) for size in cursor.numbers("Q", rank, f"the shape of {name}"))
    kind = cursor.number("I", f"the type of {name}")
    offset = cursor.number("Q", f"the offset of {name}")
    elements = 1
    for size in shape:
        elements *= size
    # No real tensor comes near; the products below stay small integers.
    if elements >= 1 << 62:
        raise CorruptFile(cursor.path, f"the tensor {name!r} has the shape {shape}", "fewer than 2^62 elements", begin)
    return TensorInfo(name, shape, elements, kind, offset, _size(cursor, name, shape, elements, kind, begin))


def _size(cursor: Cursor, name: str, shape: tuple[int, ...], elements: int, kind: int, begin: int) -> int:
    known = TENSOR_TYPES.get(kind)
    if known is None:
        if removed := REMOVED_TENSOR_TYPES.get(kind):
            raise UnsupportedFormat(
                cursor.path,
                f"the tensor {name!r} is {removed}, which llama.cpp no longer reads; download the model anew",
            )
        if kind > MAX_UNKNOWN_TYPE:
            raise CorruptFile(cursor.path, f"the tensor {name!r} has type {kind}", "a tensor type of ggml", begin)
        # Half a bit is less than any coding takes.
        if elements > cursor.size * 16:
            raise CorruptFile(
                cursor.path, f"the tensor {name!r} has the shape {shape}", f"what {cursor.size} bytes hold", begin
            )
        return 0
    row = shape[0] if shape else 1
    if row % known.block:
        raise CorruptFile(
            cursor.path,
            f"the tensor {name!r} has rows of {row}",
            f"a multiple of {known.block} for {known.name}",
            begin,
        )
    return elements // known.block * known.block_bytes


def _check_tensors(path: Path, tensors: tuple[TensorInfo, ...], start: int, alignment: int, size: int) -> int:
    """Where the last tensor ends in the file; tensors lie one after the other, each at the next alignment."""
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise CorruptFile(path, "a tensor name comes twice", "each name once")
    if not tensors:
        return start
    expected: int | None = 0
    end = 0
    for tensor in tensors:
        if tensor.offset % alignment or (expected is not None and tensor.offset != expected):
            wish = f"a multiple of {alignment}" if expected is None else str(expected)
            raise CorruptFile(path, f"the tensor {tensor.name!r} begins at {tensor.offset} of the weights", wish)
        end = max(end, start + tensor.offset + tensor.size_bytes)
        padded = -(-tensor.size_bytes // alignment) * alignment
        expected = tensor.offset + padded if tensor.type in TENSOR_TYPES else None
    if end > size:
        raise CorruptFile(
            path, f"the file has {size} bytes", f"{end}, where its tensors end; it is truncated, download it again"
        )
    return end
