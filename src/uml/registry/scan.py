"""One pass over what was found: settle each, keep what is new, notice what has gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from uml.core.errors import BadFile, UmlError
from uml.registry.entries import Entry, Found, ScanReport
from uml.registry.paths import as_text, check_text, is_folder, is_there
from uml.registry.settle import Index, Inspect, Outcome, settle
from uml.registry.sources import Candidates, Shelf, found_in, found_on

Progress = Callable[[int, int, Path], None]
"""Called with how many were looked at, how many there are, and the one that comes next."""
Keep = Callable[[Outcome], Entry]
"""Stores an outcome; the entry comes back with its id."""


def gather(shelves: Iterable[Shelf], folders: Iterable[Path], candidates: Candidates) -> list[Found | BadFile]:
    """All that may be a model. First the shelves: they know more about what lies on them than its path tells."""
    found: list[Found | BadFile] = []
    for shelf in shelves:
        found += _collect(shelf.folder, found_on(shelf, candidates))
    for folder in dict.fromkeys(folders):
        found += _collect(folder, found_in(folder, candidates))
    return found


def _collect(folder: Path, found: Iterable[Found | BadFile]) -> list[Found | BadFile]:
    """All at once, so that a progress bar knows its end."""
    if not is_folder(folder):
        return [BadFile(folder, "this model folder is not there")]
    try:
        return list(found)
    except BadFile as error:
        return [error]
    except OSError as error:
        return [BadFile(folder, error.strerror or str(error))]


@dataclass(slots=True)
class Scan:
    """A pass in progress. Ids of models are collected by what became of them."""

    index: Index
    inspect: Inspect
    keep: Keep
    ids: dict[str, list[str]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)

    def run(
        self, found: Sequence[Found | BadFile], within: Path | None = None, progress: Progress | None = None
    ) -> ScanReport:
        """Look at all of this, then at what else is known below `within` (None: everywhere)."""
        for done, each in enumerate(found):
            if progress:
                progress(done, len(found), each.path)
            if isinstance(each, BadFile):
                self.unreadable[str(as_text(each.path))] = each.message
            else:
                self.look_at(each)
        for entry in list(self.index.by_key.values()):
            inside = within is None or entry.found.path.is_relative_to(within)
            if inside and entry.present and entry.id not in self.met and entry.found.source != "package":
                self.look_again(entry)
        return ScanReport(
            **{kind: tuple(ids) for kind, ids in self.ids.items()}, unreadable=tuple(sorted(self.unreadable.items()))
        )

    def look_at(self, found: Found) -> None:
        """Settle one and keep what is new in it."""
        try:
            check_text(found.path)
            outcome = settle(found, self.index, self.inspect)
        except (UmlError, OSError) as error:
            self.unreadable[str(as_text(found.path))] = str(error)
            if found.key in self.index.by_key:
                self.met.add(self.index.by_key[found.key].id)
            return
        self._done(outcome.kind, outcome)

    def look_again(self, entry: Entry) -> None:
        """Look at something known that nothing led to this time."""
        if is_there(entry.found.path):
            self.look_at(entry.found)
        else:
            self._done("vanished", Outcome("changed", replace(entry, present=False), entry))

    def _done(self, kind: str, outcome: Outcome) -> None:
        entry = self.keep(outcome)
        self.index.put(entry, outcome.before)
        if entry.id not in self.met:  # two ways may lead to one model
            self.met.add(entry.id)
            self.ids.setdefault(kind, []).append(entry.id)
