"""Blocks of before GGUF as blocks of today, by whole columns of bytes: the standard library alone is fast enough.

The integers of a block stay what they are, but for their order; scales of 32 bits are rounded to 16.
"""

from __future__ import annotations

import struct
from typing import Final

from uml.formats.legacy.coding import Coding

_LOW: Final = bytes(byte & 0x0F for byte in range(256))
_LOW_UP: Final = bytes((byte & 0x0F) << 4 for byte in range(256))
_HIGH: Final = bytes(byte & 0xF0 for byte in range(256))
_HIGH_DOWN: Final = bytes(byte >> 4 for byte in range(256))
_FILLED: Final = bytes(byte | 0x80 for byte in range(256))
_ENDLESS: Final = bytes(byte & 0x7C == 0x7C for byte in range(256))
"""Of the upper byte of a float of 16 bits: whether it is infinite, or no number."""


def recoded(data: bytes, coding: Coding) -> bytes:
    """Whole blocks as those of `coding.becomes`; not for codings that are packed anew.

    Raises ValueError for a scale that no float of 16 bits can be.
    """
    if coding.copied:
        return data
    old, new = coding.block_bytes, coding.block_bytes - 2 * coding.floats
    count = len(data) // old
    out = bytearray(count * new)
    for number in range(coding.floats):
        halves = _halves(data, 4 * number, old)
        out[2 * number :: new], out[2 * number + 1 :: new] = halves[0::2], halves[1::2]
    start = 4 * coding.floats
    shift = start - 2 * coding.floats
    kept = coding.kept if coding.paired else coding.kept + coding.quants
    for at in range(start, start + kept):
        out[at - shift :: new] = data[at::old]
    if coding.paired:
        first, half = start + coding.kept, coding.quants // 2
        for place in range(coding.quants):
            near = data[first + place // 2 :: old]
            far = data[first + half + place // 2 :: old]
            out[first - shift + place :: new] = _joined(near, far, upper=bool(place & 1))
    return bytes(out)


def _halves(data: bytes, at: int, stride: int) -> bytes:
    """The float of 32 bits at this place of every block, each in 16 bits."""
    count = len(data) // stride
    raw = bytearray(4 * count)
    for byte in range(4):
        raw[byte::4] = data[at + byte :: stride]
    try:
        halves = struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", raw))
    except OverflowError:
        raise ValueError("a scale is too large for 16 bits, where no weights of a model come near") from None
    if any(halves[1::2].translate(_ENDLESS)):
        raise ValueError("a scale is no number")
    return halves


def _joined(near: bytes, far: bytes, *, upper: bool) -> bytes:
    """Bytes with a number of `near` below and one of `far` above: of each the upper four bits, or the lower."""
    below = near.translate(_HIGH_DOWN if upper else _LOW)
    above = far.translate(_HIGH if upper else _LOW_UP)
    # Numbers of a million digits are the widest registers there are.
    joined = int.from_bytes(below, "little") | int.from_bytes(above, "little")
    return joined.to_bytes(len(near), "little")


def widened(data: bytes, coding: Coding) -> bytes:
    """Blocks of 16, Q4_2 or Q4_3, as blocks of 32, Q4_0 or Q4_1, whose second half is padding."""
    old, new = coding.block_bytes, coding.kept + 16
    out = bytearray(len(data) // old * new)
    for at in range(coding.kept):
        out[at::new] = data[at::old]
    for place in range(16):
        numbers = data[coding.kept + place // 2 :: old].translate(_HIGH_DOWN if place & 1 else _LOW)
        out[coding.kept + place :: new] = numbers.translate(_FILLED)
    return bytes(out)


def narrowed(floats: bytes) -> bytes:
    """What was unpacked of them, floats of 32 bits, without the padding."""
    out = bytearray(len(floats) // 2)
    for byte in range(64):
        out[byte::64] = floats[byte::128]
    return bytes(out)
