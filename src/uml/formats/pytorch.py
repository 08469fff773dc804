"""PyTorch checkpoints, recognised by their first bytes and never unpickled: a pickle is a program.

Since version 1.6 a checkpoint is a zip archive with a data.pkl in it; before, pickles one after the other, the
first of which is the number 0x1950a86a20f9469cfc6c (torch/serialization.py).
"""

from __future__ import annotations

from pathlib import Path

from uml.core.errors import CorruptFile
from uml.formats.reader import opened, read_at

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"
_ZIP_END = b"PK\x05\x06"
_ZIP_TAIL = 66_000
"""Bytes: the end record of a zip archive and the longest comment after it."""


def is_pytorch(start: bytes) -> bool:
    """Whether a file that begins so is a checkpoint: 64 bytes are enough."""
    return start.startswith(LEGACY) or (start.startswith(ZIP) and b"data.pkl" in start[:160]) or is_torch_zip(start)


def is_torch_zip(start: bytes) -> bool:
    """Whether the first entry of a zip archive is one that torch writes: NAME/data.pkl or NAME/.format_version."""
    if not start.startswith(ZIP) or len(start) < 30:
        return False
    name = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    return b"/" in name and name.split(b"/", 1)[1].startswith((b"data", b"byteorder", b"version", b".format"))


def check_pytorch(path: Path) -> str:
    """The generation: `zip` or `legacy pickle`. Raises CorruptFile for anything else, or an archive cut short."""
    with opened(path) as (file, size):
        start = read_at(file, 0, 256)
        if start.startswith(LEGACY):
            return "legacy pickle"
        if not is_pytorch(start):
            raise CorruptFile(path, f"begins with {start[:8].hex(' ') or 'nothing'}", "a PyTorch checkpoint")
        tail = read_at(file, max(0, size - _ZIP_TAIL), _ZIP_TAIL)
    if _ZIP_END not in tail:
        raise CorruptFile(
            path, f"the archive breaks off after {size} bytes", "its directory at the end; download it again"
        )
    return "zip"
