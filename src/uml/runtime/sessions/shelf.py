"""Saved conversations on disk: a folder a model, a file a conversation, and beside it a note of what it is.

`sessions/MODEL/NAME.kv` is written by the worker, `NAME.json` by us, last and after the system has the file on
disk: one without a note was never finished. Both hold what users wrote, and are their owner's alone.

Nothing here waits for a worker; everything here may wait for a disk, and belongs into a thread.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.config.folders import ensure_private
from uml.core.engine import SessionKey
from uml.core.errors import gib

log = logging.getLogger(__name__)

DATA: Final = ".kv"
NOTE: Final = ".json"
VERSION: Final = 1
SPARE_BYTES: Final = 1 << 30
SPARE_SHARE: Final = 0.05
"""What of a disk is left to others: the smaller of the two."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A file as it was: written again, it has another."""

    path: str
    size: int
    written_ns: int

    @classmethod
    def of(cls, path: Path) -> Mark:
        """The file as it is now. Raises OSError."""
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns)

    @property
    def holds(self) -> bool:
        """Whether the file is still that one."""
        try:
            return Mark.of(Path(self.path)) == self
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Kept:
    """A conversation on disk.

    fingerprint: of all that must be the same to read it back. marks: the files among it.
    saved_ns: since 1970; later for one that was used later. ctx, cache_types, parallel: of the worker that it is of;
    0 and empty of one that was saved before they were noted.
    """

    model: str
    name: str
    fingerprint: str
    tokens: int
    bytes: int
    saved_ns: int
    marks: tuple[Mark, ...]
    ctx: int = 0
    cache_types: tuple[str, str] = ("", "")
    parallel: int = 0


def fingerprint(key: SessionKey) -> tuple[str, tuple[Mark, ...]]:
    """One word for a key, and the marks of its files; where these lie does not matter. Raises OSError."""
    marks = tuple(Mark.of(path) for path in key.files)
    content = [[[mark.size, mark.written_ns] for mark in marks], dict(key.traits)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(), marks


def leaving(candidates: Iterable[Kept], needed: int, room: int) -> tuple[Kept, ...] | None:
    """Which of the candidates must go, in their order, for `needed` bytes; None where all are not enough."""
    gone: list[Kept] = []
    queue = iter(candidates)
    while needed > room:
        if (victim := next(queue, None)) is None:
            return None
        gone.append(victim)
        room += victim.bytes
    return tuple(gone)


class Shelf:
    """What is saved, within a budget of bytes; the least recently used goes first."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder = folder
        self.budget_bytes = budget_bytes
        self._kept: dict[tuple[str, str], Kept] = {}

    @property
    def total_bytes(self) -> int:
        """What all of them take."""
        return sum(kept.bytes for kept in self._kept.values())

    def open(self) -> None:
        """See what is there, and remove what is of no use any more. Raises FolderNotWritable."""
        ensure_private(self.folder)
        found = sorted(self.folder.glob("*/*"))
        for path in found:
            if path.suffix == NOTE and (kept := self._read(path)):
                self.add(kept)
        for path in found:
            if (path.parent.name, path.stem) not in self._kept:
                _remove(path)
        self.drop_stale()
        self.trim()
        for folder in tuple(self.folder.iterdir()):
            with suppress(OSError):
                folder.rmdir()  # only where nothing is left in it

    def clear(self) -> None:
        """Remove everything that was ever saved."""
        self._kept.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def folder_of(self, model: str) -> Path:
        """The folder of a model's conversations, made where it is missing. Raises FolderNotWritable."""
        return ensure_private(self.folder / model)

    def path(self, model: str, name: str) -> Path:
        """Where the worker writes a conversation."""
        return self.folder / model / f"{name}{DATA}"

    def find(self, model: str, fingerprint: str) -> tuple[Kept, ...]:
        """A model's conversations that can be read back, the last used first."""
        found = [kept for kept in self._kept.values() if (kept.model, kept.fingerprint) == (model, fingerprint)]
        return tuple(sorted(found, key=lambda kept: -kept.saved_ns))

    def make_room(self, needed: int, before_ns: int, superseded: Kept | None) -> str:
        """Let go what is older than `before_ns` until `needed` bytes may be written; why not, or empty.

        superseded: goes before all others. Nothing goes where it would not be enough.
        """
        disk = shutil.disk_usage(self.folder)
        free = disk.free - min(SPARE_BYTES, int(disk.total * SPARE_SHARE))
        room = self.budget_bytes - self.total_bytes
        old = [kept for kept in self._oldest_first() if kept.saved_ns < before_ns and kept != superseded]
        gone = leaving([superseded, *old] if superseded else old, needed, min(room, free))
        if gone is None:
            if needed > self.budget_bytes:
                return f"it would take {gib(needed)}, and session_disk allows {gib(self.budget_bytes)}"
            return f"it would take {gib(needed)}, and there is no room for it on the disk of {self.folder}"
        for kept in gone:
            self.forget(kept)
        return ""

    def of(self, model: str) -> tuple[Kept, ...]:
        """The conversations of a model, of whatever fingerprint; safe to ask while others change the shelf."""
        return tuple(kept for kept in tuple(self._kept.values()) if kept.model == model)

    def add(self, kept: Kept) -> None:
        """Count a conversation that is written; `settle` makes it last."""
        self._kept[kept.model, kept.name] = kept

    def settle(self, kept: Kept) -> None:
        """Have a conversation on disk, and note what it is: from here on it outlives this process. Raises OSError."""
        path = self.path(kept.model, kept.name)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        noted = ("fingerprint", "tokens", "bytes", "saved_ns", "ctx", "cache_types", "parallel")
        fields = {name: getattr(kept, name) for name in noted}
        marks = [[mark.path, mark.size, mark.written_ns] for mark in kept.marks]
        fresh = path.with_suffix(".part")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"version": VERSION, **fields, "marks": marks}, file)
        fresh.replace(path.with_suffix(NOTE))

    def forget(self, kept: Kept) -> None:
        """Remove a conversation."""
        self._kept.pop((kept.model, kept.name), None)
        path = self.path(kept.model, kept.name)
        for gone in (path.with_suffix(NOTE), path):
            _remove(gone)

    def drop_stale(self) -> None:
        """Remove conversations of models whose files are gone or are others now."""
        for kept in tuple(self._kept.values()):
            if not all(mark.holds for mark in kept.marks):
                self.forget(kept)

    def trim(self) -> None:
        """Let go what is over the budget by itself, then the least recently used, until all is within it."""
        order = sorted(self._oldest_first(), key=lambda kept: kept.bytes <= self.budget_bytes)
        for kept in leaving(order, self.total_bytes, self.budget_bytes) or ():
            self.forget(kept)

    def _oldest_first(self) -> Sequence[Kept]:
        return sorted(self._kept.values(), key=lambda kept: kept.saved_ns)

    def _read(self, note: Path) -> Kept | None:
        """What a note says, where its conversation is as long as it says."""
        try:
            said: dict[str, Any] = json.loads(note.read_bytes())
            kept = Kept(
                model=note.parent.name,
                name=note.stem,
                fingerprint=str(said["fingerprint"]),
                tokens=int(said["tokens"]),
                bytes=int(said["bytes"]),
                saved_ns=int(said["saved_ns"]),
                marks=tuple(Mark(str(path), int(size), int(at)) for path, size, at in said["marks"]),
                ctx=int(said.get("ctx", 0)),
                cache_types=_two(said.get("cache_types", ("", ""))),
                parallel=int(said.get("parallel", 0)),
            )
            whole = self.path(kept.model, kept.name).stat().st_size == kept.bytes
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return kept if whole and said["version"] == VERSION else None


def _two(said: Any) -> tuple[str, str]:
    first, second = said
    return str(first), str(second)


def _remove(path: Path) -> None:
    """Remove a file; one that stays is tried again at the next start."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
