"""Small kernel files, read without surprises."""

from __future__ import annotations

from pathlib import Path

_LIMIT = 1 << 16


def text(path: Path, limit: int = _LIMIT) -> str:
    """The first `limit` bytes of a file as text; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """The whole number in a file; None when there is none (`max`, no such file)."""
    return whole(text(path))


def whole(word: str) -> int | None:
    """A word as a whole number from 0, or None."""
    word = word.strip()
    return int(word) if word.isascii() and word.isdigit() and len(word) < 20 else None
