"""The header of a safetensors file: u64 length, JSON of that length, tensors.

Checked as the safetensors library checks it: tensors fill the rest of the file without holes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from uml.core.errors import BadFile, CorruptFile
from uml.core.model import Scalar
from uml.formats.bounded_json import MAX_JSON, parse, scalars
from uml.formats.reader import Cursor, opened

LIBRARY_LIMIT = 100_000_000
"""Bytes of a header beyond which the safetensors library refuses a file."""

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip


class StoredTensor(NamedTuple):
    """A tensor as it lies in the file; `last` is the size of its last dimension."""

    dtype: str
    elements: int
    begin: int
    end: int
    last: int

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What the header of one file says."""

    path: Path
    size_bytes: int
    tensors: dict[str, StoredTensor]
    metadata: dict[str, Scalar] = field(default_factory=dict)

    @property
    def dtype_bytes(self) -> Counter[str]:
        """Bytes by dtype."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            sizes[tensor.dtype] += tensor.size_bytes
        return sizes


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins so (16 bytes are enough) is safetensors, whole or cut short."""
    if len(start) < 10:
        return False
    length = int.from_bytes(start[:8], "little")
    return 2 <= length <= LIBRARY_LIMIT and start[8:9] == b"{" and start[9:10] in b'"} \n\r\t' and size > 8


def read_safetensors(path: Path) -> SafetensorsHeader:
    """Read and check the header. Raises CorruptFile, or BadFile for a header too large to read."""
    with opened(path) as (file, size):
        cursor = Cursor(path, file, size)
        length = cursor.number("Q", "the header length")
        if length > size - 8:
            raise CorruptFile(
                path,
                f"the header claims {length} bytes",
                f"at most {size - 8}, the rest of the file; download it again",
                0,
            )
        if length > MAX_JSON:
            raise BadFile(path, f"has a header of {length} bytes; at most {MAX_JSON} are read")
        raw = cursor.raw(length, "the header")
    pairs = parse(path, raw, hook=_compact, offset=8)
    if not isinstance(pairs, dict):
        raise CorruptFile(path, "a header that is no JSON object", "an object of tensors", 8)
    metadata = pairs.pop("__metadata__", {})
    tensors = {name: _checked(path, name, entry) for name, entry in pairs.items()}
    _check_end(path, tensors, size - 8 - length, size)
    return SafetensorsHeader(path, size, tensors, scalars(metadata) if isinstance(metadata, dict) else {})


def _compact(pairs: list[tuple[str, Any]]) -> Any:
    """The entry of a tensor as a small tuple as soon as it is parsed, so that a long header stays small in memory."""
    found = dict(pairs)
    match found:
        case {"dtype": str() as dtype, "shape": list() as shape, "data_offsets": [int() as begin, int() as end]}:
            elements = 1
            for size in shape:
                if not isinstance(size, int) or isinstance(size, bool) or size < 0 or elements > 1 << 62:
                    return found
                elements *= size
            return StoredTensor(dtype, elements, begin, end, shape[-1] if shape else 1)
    return found


def _checked(path: Path, name: str, entry: object) -> StoredTensor:
    if not isinstance(entry, StoredTensor):
        raise CorruptFile(path, f"the entry of {name[:80]!r} is incomplete", "dtype, shape and data_offsets")
    bits = DTYPE_BITS.get(entry.dtype)
    # A type of the future takes a bit an element at least.
    needed = -(-entry.elements * bits // 8) if bits else max(entry.size_bytes, -(-entry.elements // 8))
    if not 0 <= entry.begin <= entry.end or entry.size_bytes != needed:
        raise CorruptFile(
            path,
            f"the tensor {name[:80]!r} lies at {entry.begin} to {entry.end}",
            f"{needed} bytes for {entry.elements} elements of {entry.dtype}",
        )
    return entry


def _check_end(path: Path, tensors: dict[str, StoredTensor], room: int, size: int) -> None:
    end = max((tensor.end for tensor in tensors.values()), default=0)
    if end > room:
        raise CorruptFile(
            path,
            f"the file has {size} bytes",
            f"{size - room + end}, where its tensors end; it is truncated, download it again",
        )
    if end < room:
        raise CorruptFile(path, f"{room - end} bytes follow the last tensor", "none", size - room + end)
