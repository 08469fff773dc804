"""Questions about paths that never raise: pathlib's own do, where a folder may not be entered."""

# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH113 (os.path answers no where pathlib raises PermissionError)

from __future__ import annotations

import os
from pathlib import Path

from uml.core.errors import BadFile


def is_there(path: Path) -> bool:
    """Whether a path leads to something that we may see."""
    return os.path.exists(path)


def is_folder(path: Path) -> bool:
    """Whether it is a folder that we may see."""
    return os.path.isdir(path)


def is_file(path: Path) -> bool:
    """Whether it is a file that we may see."""
    return os.path.isfile(path)


def absolute(path: Path | str) -> Path:
    """A path as a user gives it, from the root; links stay as they are, for their names tell more."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def real(path: Path) -> Path:
    """A path as a user gives it, from the root, with all links followed."""
    return Path(os.path.realpath(os.path.expanduser(path)))


def check_text(path: Path) -> None:
    """Raise BadFile for a path that cannot be shown, stored or sent: file systems also take what is no text."""
    if as_text(path) != path or "\0" in str(path):
        raise BadFile(as_text(path), "the name is not valid UTF-8; rename it")


def as_text(path: Path) -> Path:
    """A path that can be shown."""
    return Path(str(path).encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0"))
