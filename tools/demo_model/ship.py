"""ship(files, folder) -> [path]: what was made, put into the package's folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def ship(files: Path, folder: Path) -> list[Path]:
    """Put what ships into the package's folder; returns it. What only was scored stays behind.

    Each is copied beside its place and moved there: a worker may have mapped what lies there, and one whose file gets
    shorter under it ends by SIGBUS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_put(path, folder / path.name) for path in sorted(files.iterdir()) if path.name != "kinds"]


def _put(path: Path, place: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix=".shipping-", dir=place.parent) as beside:
        fresh = Path(beside) / "new"
        if path.is_dir():
            shutil.copytree(path, fresh)
            if place.exists():  # a folder with something in it is not replaced by another
                place.rename(Path(beside) / "old")
        else:
            shutil.copyfile(path, fresh)
        return fresh.rename(place)
