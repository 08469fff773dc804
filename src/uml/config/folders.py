"""Folders of ours: where they lie, and whether they can be written."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from uml.core.errors import FolderNotWritable

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors that say that a disk is full."""

SOCKET_PATH_BYTES: Final = 104
"""Longest path of a Unix socket with its final zero: 104 on macOS, 108 on Linux (sys/un.h)."""
SOCKET_NAME_BYTES: Final = 34
"""Room kept for `/NAME.sock` and the final zero below the runtime folder."""


def config_file() -> Path:
    """The user's own configuration file, there or not."""
    # Imported here, as everywhere in this room, what a `uml version` does not need.
    from platformdirs import user_config_path

    return user_config_path("uml", appauthor=False) / "config.toml"


def data_folder() -> Path:
    """Where everything is kept unless a setting says otherwise."""
    from platformdirs import user_data_path

    return user_data_path("uml", appauthor=False)


def runtime_folder(data: Path, environ: Mapping[str, str]) -> Path:
    """A folder for sockets: one for each data folder, so that two servers never meet, and short."""
    from tempfile import gettempdir

    mark = f"{zlib.crc32(os.fsencode(data)):08x}"
    user = os.getuid() if hasattr(os, "getuid") else 0
    given = environ.get("XDG_RUNTIME_DIR", "")
    places = [Path(given) / f"uml-{mark}"] if given and Path(given).is_dir() else []
    places += [Path(parent) / f"uml-{user}-{mark}" for parent in (gettempdir(), "/tmp")]  # noqa: S108
    return next((place for place in places if fits_sockets(place)), places[-1])


def fits_sockets(folder: Path) -> bool:
    """Whether a socket in this folder has a path that every system takes."""
    return len(os.fsencode(folder)) + SOCKET_NAME_BYTES <= SOCKET_PATH_BYTES


def absolute(text: str, base: Path) -> Path:
    """A path as a user writes it, `~` and relative ones included; links stay as they are."""
    return Path(os.path.abspath(base / os.path.expanduser(text)))  # noqa: PTH100, PTH111


def ensure_writable(folder: Path) -> Path:
    """Make the folder where it is missing, and prove that files can be made in it. Raises FolderNotWritable."""
    from tempfile import TemporaryFile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permission bits lie on read-only and full disks, and to root: only a file that was made proves it.
        with TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except FileExistsError as error:
        raise FolderNotWritable(folder, "it is not a folder") from error
    except OSError as error:
        raise FolderNotWritable(folder, error.strerror or str(error), full=error.errno in FULL) from error
    return folder


def ensure_private(folder: Path) -> Path:
    """As `ensure_writable`, and nobody else may enter: mode 0700, ours, not a link. Raises FolderNotWritable."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        # Another user may have made the folder first, in a shared place such as /tmp.
        if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
            raise FolderNotWritable(folder, "it belongs to another user or is a link")
        if status.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise FolderNotWritable(folder, error.strerror or str(error), full=error.errno in FULL) from error
    return ensure_writable(folder)
