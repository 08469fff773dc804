"""From something found to an entry: is it known, has it changed, has it moved, what is it?"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from uml.core.errors import BadFile, UnsupportedFormat
from uml.core.model import Format, ModelInfo
from uml.registry.entries import Entry, Found
from uml.registry.paths import is_file, is_there, real

Inspect = Callable[[Path], ModelInfo]
Kind = Literal["added", "changed", "moved", "unchanged"]

EDGE_BYTES: Final = 64 << 10
"""How much of a file's beginning and end goes into its fingerprint."""


@dataclass(slots=True)
class Index:
    """Entries by all that they may be recognised by."""

    by_key: dict[str, Entry] = field(default_factory=dict)
    by_real: dict[str, Entry] = field(default_factory=dict)
    by_fingerprint: dict[str, dict[str, Entry]] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Index:
        """An index of these entries."""
        index = cls()
        for entry in entries:
            index.put(entry)
        return index

    def put(self, entry: Entry, before: Entry | None = None) -> None:
        """Take up an entry, in place of what it was before."""
        if before is not None:
            self.by_key.pop(before.found.key, None)
            self.by_real.pop(before.real, None)
            self.by_fingerprint.get(before.fingerprint, {}).pop(before.id, None)
        self.by_key[entry.found.key] = entry
        self.by_real[entry.real] = entry
        self.by_fingerprint.setdefault(entry.fingerprint, {})[entry.id] = entry

    def moved_from(self, fingerprint: str, path: Path) -> Entry | None:
        """An entry with this content whose own file is gone; one of the same name first."""
        gone = [e for e in self.by_fingerprint.get(fingerprint, {}).values() if not is_there(e.info.path)]
        return min(gone, key=lambda entry: (entry.info.path.name != path.name, entry.id), default=None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of something found. `before` is the entry that it was, `entry` the one that it is."""

    kind: Kind
    entry: Entry
    before: Entry | None = None


def settle(found: Found, index: Index, inspect: Inspect) -> Outcome:
    """What this is, read anew only if it has to be. An added entry has no id yet.

    Raises BadFile, or what else `inspect` raises, for something that cannot be read.
    """
    before = index.by_key.get(found.key) or _other_way(found, index)
    if before is not None and _is_settled(found, before):
        return Outcome("unchanged", before, before)
    if before is not None and found.source == "folder" and is_there(before.found.path):
        found = before.found  # a user's own path never takes a model away from where it was found first
    info = found.enrich(inspect(found.path))
    if info.format is Format.UNKNOWN and not info.version:  # with one, a plug-in knows it
        raise UnsupportedFormat(found.path, f"not a model that can be told: {info.reason}")
    if info.path != found.path and found.source == "folder":
        found = Found.at(info.path)  # a later part of a split file stands for the whole
        before = index.by_key.get(found.key)
    try:
        # The signature comes first: what changes while the rest is read shows at the next look.
        entry = Entry("", found, info, str(real(info.path)), signature(info), fingerprint(info))
    except OSError as error:
        raise BadFile(found.path, error.strerror or str(error)) from error
    if before is not None:
        entry = replace(entry, id=before.id)
        if not before.present:
            return Outcome("added", entry, before)
        return Outcome("unchanged" if entry == replace(before, found=found) else "changed", entry, before)
    gone = index.moved_from(entry.fingerprint, info.path)
    if gone is not None:
        return Outcome("moved", replace(entry, id=gone.id), gone)
    return Outcome("added", entry)


def _other_way(found: Found, index: Index) -> Entry | None:
    """An entry of the same file, reached by another path. Names of one source may share a file."""
    entry = index.by_real.get(str(real(found.path)))
    return entry if entry is not None and "folder" in (entry.found.source, found.source) else None


def _is_settled(found: Found, before: Entry) -> bool:
    """Whether nothing needs to be read."""
    known = before.found == found or (found.source == "folder" and before.found.key != found.key)
    return known and before.present and is_unchanged(before)


def is_unchanged(entry: Entry) -> bool:
    """Whether all files of an entry are as they were when it was read."""
    try:
        return signature(entry.info) == entry.signature
    except OSError:
        return False


def signature(info: ModelInfo) -> str:
    """Size, time and inode of everything that belongs to a model. Raises OSError where something is gone.

    A folder counts with its time: a file that is added or replaced changes it.
    """
    parts = {}
    for path in dict.fromkeys((info.path, *info.files)):
        status = os.stat(path)  # noqa: PTH116 (a third of the time of Path.stat, and called for every file)
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        parts[str(path)] = (size, status.st_mtime_ns, status.st_ino)
    return json.dumps(parts, separators=(",", ":"))


def written_s(entry: Entry) -> int:
    """When the newest file of an entry was written, in seconds since 1970, by its signature; 0 where that has none."""
    try:
        parts = json.loads(entry.signature)
        newest_ns: int = max(parts[str(path)][1] for path in entry.info.files or (entry.info.path,))
    except (ValueError, KeyError):  # an entry of another version, to be read again
        return 0
    return newest_ns // 1_000_000_000


def fingerprint(info: ModelInfo) -> str:
    """A hash of the sizes of all files and of the first and last 64 KiB of the largest. Raises OSError.

    Weights of tens of gigabytes are not read: header and last tensors tell models apart.
    """
    files = [path for path in info.files or (info.path,) if is_file(path)]
    sizes = sorted((path.stat().st_size, path.name, path) for path in files)
    digest = hashlib.sha256(json.dumps([size for size, _, _ in sizes]).encode())
    if sizes:
        size, _, largest = sizes[-1]
        with largest.open("rb") as file:
            digest.update(file.read(EDGE_BYTES))
            file.seek(max(EDGE_BYTES, size - EDGE_BYTES))
            digest.update(file.read(EDGE_BYTES))
    return digest.hexdigest()[:32]
