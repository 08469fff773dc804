"""An image in a request: its bytes out of a data URL, and what its header says before anything is decoded.

A few hundred bytes can stand for an image of gigabytes, so width and height are read, and bounded, first.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from uml.core.errors import BadRequest
from uml.core.quote import quoted

MOST: Final = 64
"""Images in one request."""
MOST_PIXELS: Final = 1 << 26
"""Of one image: 8,192 by 8,192, 192 MiB once it is decoded."""
MOST_PIXELS_IN_ALL: Final = 1 << 27
MOST_RATIO: Final = 200
"""Of the longer side to the shorter. Many models want the shorter one in a size of theirs: a line of one pixel would
become gigabytes."""
_MOST_SEGMENTS: Final = 4096
"""Of a JPEG before its frame: what an honest one has are at most some hundred, of a profile and previews."""
KINDS: Final = "PNG, JPEG, WebP, GIF or BMP"
EXPECTED: Final = "the image itself, as data:image/...;base64,..."


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of an image say; sides in pixels."""

    kind: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """How many it has."""
        return self.width * self.height


def url_of(part: Mapping[str, Any]) -> Any:
    """What stands where an `image_url` part has its URL: `{"url": ...}`, or the URL itself."""
    image = part.get("image_url")
    return image.get("url") if isinstance(image, dict) else image


def data_of(url: Any, where: str) -> bytes:
    """The bytes of a data URL. Raises BadRequest, with `where` as the field, for anything else."""
    if not isinstance(url, str) or not url.startswith("data:"):
        # An engine would fetch it: from the network, or from this machine's disk.
        raise BadRequest(
            f"{where} is {quoted(url) if isinstance(url, str) else 'no text'}; expected {EXPECTED}", param=where
        )
    kind, comma, text = url.partition(",")
    if not comma or not kind.endswith(";base64"):
        raise BadRequest(f"{where} begins {quoted(url[:40])}; expected {EXPECTED}", param=where)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{where}: what follows the comma is no base64 ({error})", param=where) from error
    if not data:
        raise BadRequest(f"{where} is an empty image; expected {EXPECTED}", param=where)
    return data


def check(data: bytes, where: str) -> Header:
    """What an image says of itself. Raises BadRequest for what is none, is cut short, or is too large."""
    header = header_of(data)
    if header is None:
        raise BadRequest(
            f"{where} holds {len(data)} bytes that are no image with a size in its header; expected {KINDS}",
            param=where,
        )
    if header.width <= 0 or header.height <= 0:
        raise BadRequest(f"{where} is a {header.kind} image of {header.width} x {header.height} pixels", param=where)
    if not _is_whole(header.kind, data):
        # Some decoders would fill the rest with grey, and a model would speak of that.
        raise BadRequest(f"{where} is a {header.kind} image that is cut short, after {len(data)} bytes", param=where)
    if header.pixels > MOST_PIXELS:
        raise BadRequest(
            f"{where} is a {header.kind} image of {header.width} x {header.height} pixels; expected {MOST_PIXELS} "
            "pixels at most (8192 x 8192); send it smaller",
            param=where,
        )
    if max(header.width, header.height) > MOST_RATIO * min(header.width, header.height):
        raise BadRequest(
            f"{where} is a {header.kind} image of {header.width} x {header.height} pixels; expected sides of which one "
            f"is at most {MOST_RATIO} times the other",
            param=where,
        )
    return header


def header_of(data: bytes) -> Header | None:
    """Kind and size; None for what is no image, or ends before it says how large it is."""
    for start, kind, size_of in _KINDS:
        if data.startswith(start):
            try:
                width, height = size_of(data)
            except (struct.error, IndexError, ValueError):
                return None
            return Header(kind, width, height)
    return None


def _is_whole(kind: str, data: bytes) -> bool:
    """Whether the end of an image is there, of kinds that say where it is."""
    if kind == "PNG":
        return data.rfind(b"IEND") > 0
    if kind == "JPEG":
        return data.rfind(b"\xff\xd9") > 0
    return kind != "WebP" or int.from_bytes(data[4:8], "little") + 8 <= len(data)


def _png(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise ValueError
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    (length,) = struct.unpack_from("<I", data, 14)
    # The first kind of header has sides of two bytes; a height below 0 is one from top to bottom.
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    return width, abs(height)


def _jpeg(data: bytes) -> tuple[int, int]:
    """Segments, one after the other, up to that of the frame (SOF0 to SOF15)."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if data[at] != 0xFF:
            raise ValueError
        marker = data[at + 1]
        if marker == 0xFF:  # a byte that fills
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            at += 2 + max(2, length)
    raise ValueError


def _webp(data: bytes) -> tuple[int, int]:
    """RIFF: the plain kind (VP8), the one without loss (VP8L), or the one with a canvas (VP8X)."""
    if data[8:12] != b"WEBP":
        raise ValueError
    kind = data[12:16]
    if kind == b"VP8X":
        bits = int.from_bytes(data[24:30], "little")
        if len(data) < 30:
            raise ValueError
        return (bits & 0xFFFFFF) + 1, (bits >> 24) + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError


_KINDS: Final[tuple[tuple[bytes, str, Callable[[bytes], tuple[int, int]]], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", _png),
    (b"\xff\xd8", "JPEG", _jpeg),
    (b"GIF8", "GIF", _gif),
    (b"BM", "BMP", _bmp),
    (b"RIFF", "WebP", _webp),
)
