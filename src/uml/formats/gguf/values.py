"""Values of GGUF metadata as bytes, type first: what `gguf_copy.head` writes beside each key of a new file.

Source of types and layout: ggml's docs/gguf.md. Little endian.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

from uml.formats.gguf.header import TensorInfo
from uml.formats.gguf.tables import TENSOR_TYPES

_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_LENGTH: Final = struct.Struct("<Q")


def u32(value: int) -> bytes:
    """A count, 0 to 2**32 - 1."""
    return struct.pack("<II", _U32, value)


def i32(value: int) -> bytes:
    """A whole number that may be below zero."""
    return struct.pack("<Ii", _I32, value)


def f32(value: float) -> bytes:
    """A number, rounded to float32."""
    return struct.pack("<If", _F32, value)


def flag(value: bool) -> bytes:
    """Yes or no."""
    return struct.pack("<I?", _BOOL, value)


def text(value: str | bytes) -> bytes:
    """A string; bytes are written as they are, UTF-8 or not."""
    return struct.pack("<I", _STRING) + _string(value)


def texts(values: Sequence[str | bytes]) -> bytes:
    """An array of strings."""
    return b"".join((_array(_STRING, len(values)), *map(_string, values)))


def i32s(values: Sequence[int]) -> bytes:
    """An array of whole numbers."""
    return _array(_I32, len(values)) + struct.pack(f"<{len(values)}i", *values)


def f32s(values: Sequence[float] | array[float]) -> bytes:
    """An array of numbers, each rounded to float32."""
    return _array(_F32, len(values)) + struct.pack(f"<{len(values)}f", *values)


def flags(values: Iterable[bool]) -> bytes:
    """An array of yes and no."""
    raw = bytes(map(bool, values))
    return _array(_BOOL, len(raw)) + raw


def u8s(values: bytes) -> bytes:
    """An array of bytes."""
    return _array(0, len(values)) + values


def _array(kind: int, count: int) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, count)


def _string(value: str | bytes) -> bytes:
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return _LENGTH.pack(len(raw)) + raw


def tensor(name: str, shape: tuple[int, ...], kind: int) -> TensorInfo:
    """A tensor that is to be written, at offset 0: for `gguf_copy.laid_out`.

    shape: sizes, fastest first; the first is a multiple of the type's block. kind: of `TENSOR_TYPES`.
    """
    elements = 1
    for size in shape:
        elements *= size
    known = TENSOR_TYPES[kind]
    return TensorInfo(name, shape, elements, kind, 0, elements // known.block * known.block_bytes)
