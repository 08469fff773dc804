"""The head of a new GGUF file, made of an old one's: metadata pass through as the bytes that they are.

Values are not read: vocabularies of 260,000 strings are copied in one piece. Source of the layout: ggml's
docs/gguf.md; versions 2 and 3 write pairs alike.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from uml.core.errors import CorruptFile, UnsupportedFormat
from uml.formats.gguf.header import MAGIC, MAX_NAME, WIDTHS, TensorInfo
from uml.formats.reader import Cursor, opened, read_at

VERSION: Final = 3
ALIGNMENT: Final = 32
"""Bytes, where a file does not say."""
_U32, _STRING, _ARRAY = 4, 8, 9


def pairs(path: Path) -> dict[str, bytes]:
    """Key -> type and value, as they stand in a little-endian file whose header `read_header` found sound.

    Raises CorruptFile, UnsupportedFormat for the other byte order, BadFile.
    """
    found: dict[str, bytes] = {}
    with opened(path) as (file, size):
        cursor = Cursor(path, file, size)
        cursor.skip(len(MAGIC), "the magic")
        version = cursor.number("I", "the version")
        if version & 0xFFFF == 0:
            raise UnsupportedFormat(path, "it is big endian; only little-endian files are copied")
        cursor.number("Q", "the tensor count")
        for _ in range(cursor.number("Q", "the metadata count")):
            key = cursor.string("a metadata key", MAX_NAME)
            if key is None:
                raise CorruptFile(path, "a metadata key is too long", f"{MAX_NAME} bytes", cursor.at)
            begin = cursor.at
            _skip_value(cursor, key)
            found[key] = read_at(file, begin, cursor.at - begin)
    return found


def _skip_value(cursor: Cursor, key: str) -> None:
    kind = cursor.number("I", f"the type of {key}")
    count = 1
    if kind == _ARRAY:
        kind = cursor.number("I", f"the entry type of {key}")
        count = cursor.number("Q", f"the length of {key}")
    if kind == _STRING:
        cursor.skip_strings(count, key)
    elif width := WIDTHS.get(kind):
        cursor.check_count(count, width, key)
        cursor.skip(count * width, key)
    else:
        raise CorruptFile(cursor.path, f"the key {key!r} has value type {kind}", "a number or a string", cursor.at)


def u32(value: int) -> bytes:
    """A value of `pairs`."""
    return struct.pack("<II", _U32, value)


def padded(size: int, alignment: int) -> int:
    """Bytes up to the next multiple."""
    return -(-size // alignment) * alignment


def laid_out(tensors: Iterable[TensorInfo], alignment: int) -> tuple[TensorInfo, ...]:
    """The tensors with their offsets, one after the other, each at the next multiple of the alignment."""
    placed, offset = [], 0
    for tensor in tensors:
        placed.append(tensor._replace(offset=offset))
        offset += padded(tensor.size_bytes, alignment)
    return tuple(placed)


def head(metadata: Mapping[str, bytes], tensors: Sequence[TensorInfo], alignment: int) -> bytes:
    """Everything before the weights, padding too. tensors: as `laid_out` gives them."""
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_string(key), value]
    for tensor in tensors:
        rank = len(tensor.shape)
        sizes = struct.pack(f"<I{rank}Q", rank, *tensor.shape)
        parts += [_string(tensor.name), sizes, struct.pack("<IQ", tensor.type, tensor.offset)]
    whole = b"".join(parts)
    return whole.ljust(padded(len(whole), alignment), b"\0")


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
