"""Something new on the disk, all of it or nothing: made in a folder beside its place, and moved there when whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.errors import BadRequest, NoRoom
from uml.runtime.installs.workshop import lives

MAKING: Final = ".uml-making-"
SPARE_BYTES: Final = 256 << 20
"""Left free on a disk beside what is made."""


@dataclass(frozen=True, slots=True)
class Making:
    """How far it is. text: what is being done. percent: 0 to 100, never falls."""

    text: str
    percent: float


@contextmanager
def workshop(what: str, place: Path, needed_bytes: int) -> Iterator[Path]:
    """A folder to make something in that will lie at `place`; gone at the end, whatever that is.

    Raises BadRequest where something is there already, NoRoom, OSError.
    """
    if place.exists():
        raise BadRequest(f"{place} is there already; name another place with --out", param="out")
    place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent)
    free = shutil.disk_usage(place.parent).free
    if free < needed_bytes + SPARE_BYTES:
        raise NoRoom(what, needed_bytes + SPARE_BYTES, free, place.parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{MAKING}{os.getpid()}-", dir=place.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trouble(error: OSError, place: Path) -> str:
    """What went wrong, and where. place: what was to be made, for errors that name no file."""
    return f"{error.filename or place}: {error.strerror or error}"


def sweep(folder: Path) -> int:
    """Remove what processes that were killed have left; how many folders."""
    gone = 0
    for left in folder.glob(f"{MAKING}*"):
        pid = left.name.removeprefix(MAKING).partition("-")[0]
        if pid.isdigit() and not lives(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
            gone += 1
    return gone
