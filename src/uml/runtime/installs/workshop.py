"""Where installs are made: a folder beside them while one is, and what is left of one that was cut off."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MAKING: Final = ".making-"
LEAVING: Final = ".leaving-"
LOCK: Final = "lock"
NO_LOCK_YET_S: Final = 60.0


@contextmanager
def workshop(root: Path, name: str) -> Iterator[tuple[Path, int]]:
    """A folder beside the installs, and its lock; the folder is gone at the end. name: of what is made there.

    The lock tells whoever tidies up that it is in use: it ends with this process, and with the installers that
    it has started, however those end.
    """
    shop = Path(tempfile.mkdtemp(prefix=MAKING, dir=root))
    lock = os.open(shop / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        _take(lock)
        os.write(lock, f"{os.getpid()} {name}".encode())
        yield shop, lock
    finally:
        os.close(lock)
        shutil.rmtree(shop, ignore_errors=True)


def _take(lock: int) -> bool:
    try:
        import fcntl
    except ImportError:  # not a Unix
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_made_now(root: Path, name: str) -> bool:
    """Whether somebody is making it this very moment: `NAME==VERSION`, as in `Order.name`.

    Not one who was killed, whose installer may still hold the lock.
    """
    for folder in root.glob(f"{MAKING}*"):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR)
        except OSError:
            continue  # it is over, or only just begins
        try:
            maker, _, made = os.read(lock, 200).decode().partition(" ")
            if made == name and not _take(lock) and lives(int(maker)):
                return True
        finally:
            os.close(lock)
    return False


def lives(process: int) -> bool:
    """Whether there is a process of this number, anybody's."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def sweep(root: Path) -> int:
    """Remove what an interrupted making or removal has left; how many folders. Nothing that is in use."""
    gone = 0
    for folder in (*root.glob(f"{MAKING}*"), *root.glob(f"{LEAVING}*")):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR)
        except OSError:
            lock = -1
            if folder.name.startswith(MAKING) and _age_s(folder) < NO_LOCK_YET_S:
                continue  # somebody has made it this very moment
        try:
            if lock < 0 or _take(lock):
                shutil.rmtree(folder, ignore_errors=True)
                gone += 1
        finally:
            if lock >= 0:
                os.close(lock)
    return gone


def _age_s(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0
