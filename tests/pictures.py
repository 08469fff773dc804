"""Small images, made without a library: PNG and BMP that every engine reads, headers of the others."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any


def png(width: int = 40, height: int = 30, shade: int = 0) -> bytes:
    """A PNG of colours that run from left to right and from top to bottom. shade: another one for each number."""
    rows = b"".join(
        b"\0" + bytes(value for x in range(width) for value in (x * 5 + shade & 255, y * 7 & 255, shade * 3 & 255))
        for y in range(height)
    )
    return _png(width, height, zlib.compress(rows))


def huge_png(side: int = 100_000) -> bytes:
    """A few bytes that say that they stand for an image of gigabytes."""
    return _png(side, side, zlib.compress(b"\0" * 1000))


def _png(width: int, height: int, packed: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    """A black BMP of 24 bits."""
    row = (width * 3 + 3) // 4 * 4
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, row * abs(height), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + row * abs(height), 0, 0, 54) + head + bytes(row * abs(height))


def gif(width: int, height: int) -> bytes:
    """What a GIF begins with."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    """A JPEG without its picture: `before`, the header of its frame, and its end."""
    return b"\xff\xd8" + before + b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00\xff\xd9"


def webp(width: int, height: int, kind: bytes) -> bytes:
    """What a WebP of a kind begins with."""
    if kind == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    else:
        body = bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBP" + kind + struct.pack("<I", len(body)) + body


def url(data: bytes, kind: str = "image/png") -> str:
    """As requests carry it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def part(data: bytes) -> dict[str, Any]:
    """A part of a message."""
    return {"type": "image_url", "image_url": {"url": url(data)}}


def seen(text: str, *images: bytes) -> dict[str, Any]:
    """A message of the user: images, and what is asked of them."""
    return {"role": "user", "content": [*map(part, images), {"type": "text", "text": text}]}
