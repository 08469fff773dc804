"""All models under all their names: built anew after a change, then only looked up."""

from __future__ import annotations

import difflib
import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from uml.core.model import Model
from uml.registry.entries import Entry
from uml.registry.names import MAX_ALIAS, automatic_aliases, plain, slug
from uml.registry.paths import absolute
from uml.registry.settle import written_s

_NOT_IN_IDS: Final = frozenset(" ()[]")


@dataclass(frozen=True, slots=True)
class Catalog:
    """A moment's view of the registry.

    names: ids and aliases, folded to lower case.
    paths: absolute paths, as found and with links resolved.
    shared: names that several models claim, and whose ids those are.
    """

    models: tuple[Model, ...]
    entries: Mapping[str, Entry]
    names: Mapping[str, Model]
    paths: Mapping[str, Model]
    shared: Mapping[str, tuple[str, ...]]

    def find(self, name: str) -> Model | None:
        """The model of this id, alias or path: a few lookups. A name may have spaces and brackets, as files have."""
        model = self.names.get(name) or self.names.get(name.casefold()) or self.paths.get(name)
        model = model or self.names.get(plain(name))
        if model is None and not _NOT_IN_IDS.isdisjoint(name) and os.sep not in name:
            model = self.names.get(slug(name))
        if model is None and (name.startswith(("~", ".")) or os.sep in name):
            model = self.paths.get(str(absolute(name)))
        return model

    def sharing(self, name: str) -> tuple[str, ...]:
        """Ids of the models that all have this name, where it is none's; else empty."""
        return self.shared.get(plain(name), ())

    def close(self, name: str) -> list[str]:
        """Up to three names like this one.

        First those that begin it, before a tag or an ending (`llama3:latest`); then those that it is the beginning of.
        """
        if not 0 < len(name) <= MAX_ALIAS:
            return []
        # difflib takes a fifth of a millisecond a name where many are alike: it sees the likeliest only.
        name = name.casefold()
        parts = {name[start : start + 3] for start in range(len(name))}
        likely = heapq.nlargest(50, self.names, key=lambda known: sum(part in known for part in parts))
        shorter = [known for known in likely if name.startswith((f"{known}:", f"{known}.", f"{known}@"))]
        longer = [known for known in likely if known.startswith(name)]
        shorter.sort(key=len, reverse=True)
        return list(dict.fromkeys((*shorter, *longer, *difflib.get_close_matches(name, likely, 3))))[:3]


def build(entries: Iterable[Entry], given: Mapping[str, str]) -> Catalog:
    """The catalog of these entries. An id beats an alias, a given alias (name -> id) an automatic one.

    An automatic alias that several models claim is nobody's. One that has vanished claims only
    what no present one does.
    """
    ordered = sorted(entries, key=lambda entry: entry.id)
    claims = {entry.id: automatic_aliases(entry) for entry in ordered}
    strong = Counter(name.casefold() for entry in ordered if entry.present for name in claims[entry.id])
    weak = Counter(name.casefold() for entry in ordered if not entry.present for name in claims[entry.id])
    taken = {entry.id for entry in ordered} | {name.casefold() for name in given}

    def wins(name: str, present: bool) -> bool:
        folded = name.casefold()
        if folded in taken:
            return False
        return strong[folded] == 1 if present else strong[folded] == 0 and weak[folded] == 1

    claimants: dict[str, list[str]] = {}
    for entry in ordered:
        for folded in {name.casefold() for name in claims[entry.id]} - taken if entry.present else ():
            claimants.setdefault(folded, []).append(entry.id)
    models = []
    for entry in ordered:
        own = [name for name, owner in given.items() if owner == entry.id]
        automatic = [name for name in claims[entry.id] if wins(name, entry.present)]
        aliases = (*own, *automatic)
        models.append(Model(entry.id, entry.info, aliases, entry.found.source, entry.present, written_s(entry)))
    names = {name.casefold(): model for model in models for name in model.aliases}
    names |= {model.id: model for model in models}
    paths = {entry.real: model for entry, model in zip(ordered, models, strict=True)}
    paths |= {str(model.info.path): model for model in models}
    shared = {name: tuple(ids) for name, ids in claimants.items() if len(ids) > 1}
    return Catalog(tuple(models), {entry.id: entry for entry in ordered}, names, paths, shared)
