"""What a user means by a name: a path, or an id or alias."""

from __future__ import annotations

import os
from pathlib import Path


def at_home(name: str) -> Path:
    """A path with `~` at its beginning read as in a shell; the home of nobody stays as it is written."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  # Path's own raises for a user who is not there


def path_in(name: str) -> Path | None:
    """The path that a user means, or None for an id or an alias (`Qwen/Qwen2.5-0.5B` is one)."""
    if name.startswith(("/", "./", "../", "~")) or ("://" not in name and name.endswith(".gguf")):
        return at_home(name).absolute()
    try:
        return Path(name).absolute() if "/" in name and Path(name).exists() else None
    except OSError:  # not readable, or too long for a path
        return None
