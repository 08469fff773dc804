"""Which models there are, where they lie and what they are called.

What was found stays in SQLite; other processes may read and write it at the same time. Lookups by
name never touch the disk. Every method may be called from any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

from uml import formats
from uml.core.errors import AmbiguousModel, BadFile, BadRequest, ModelNotFound, UmlError, UnsupportedFormat
from uml.core.model import Model
from uml.formats.reader import cannot_read
from uml.registry import catalog, names
from uml.registry.entries import Entry, Found, ScanReport
from uml.registry.measurements import Measurements
from uml.registry.paths import absolute, check_text, is_folder, is_there, real
from uml.registry.pins import Pins
from uml.registry.profiles import Profiles
from uml.registry.scan import Progress, Scan, gather
from uml.registry.settle import Index, Inspect, Outcome, fingerprint, is_unchanged, settle, signature
from uml.registry.sources import Candidates, Shelf, discover_here
from uml.registry.store import Store

log = logging.getLogger(__name__)

DEMO_ID = "demo"


PACKAGE = {
    DEMO_ID: "demo.gguf",
    "demo-draft": "demo-draft.gguf",
    "demo-draft-safetensors": "demo-draft-safetensors",
    "demo-embedding": "demo-embedding.gguf",
    "demo-pirate": "demo-pirate.gguf",
    "demo-safetensors": "demo-safetensors",
}
"""What comes with the program: the demo model and its companions, by id."""


def packaged_model(name: str = DEMO_ID) -> Path:
    """The file or folder of a model that comes with the program."""
    return Path(str(files("uml").joinpath("models", PACKAGE[name])))


class Registry:
    """The models of one user.

    database: SQLite file, made where it is missing; a damaged one is set aside (see `notices`).
    inspect, candidates: what a path is, and which paths below a folder may be models.
    shelves: the folders of other programs that `rescan` looks through.
    package: models that are always there, by id; None for those that come with the program.
    """

    def __init__(
        self,
        database: Path,
        inspect: Inspect = formats.inspect,
        candidates: Candidates = formats.candidates,
        shelves: Callable[[], Sequence[Shelf]] = discover_here,
        package: Mapping[str, Path] | None = None,
    ) -> None:
        """Open the registry. Raises SetupError, FolderNotWritable among them."""
        self._inspect = inspect
        self._candidates = candidates
        self._shelves = shelves
        self._store = Store(database)
        self._stored = threading.RLock()
        self.measurements = Measurements(self._store, self._stored)
        self.pins = Pins(self._store, self._stored)
        self.profiles = Profiles(self._store, self._stored)
        self._scanning = threading.Lock()
        self._stale = True
        paths = {name: packaged_model(name) for name in PACKAGE} if package is None else package
        self._package = tuple(entry for name, path in paths.items() for entry in self._packaged(name, path))
        self._catalog = catalog.build((), {})
        self._refresh()

    def _packaged(self, name: str, path: Path) -> tuple[Entry, ...]:
        """A model of the package, never stored: every installation has its own."""
        found = Found(f"package:{name}", path, "package", title=name)
        try:
            info = self._inspect(path)
            return (Entry(name, found, info, str(real(path)), signature(info), fingerprint(info)),)
        except (UmlError, OSError) as error:
            log.warning("%s, which comes with the program, cannot be used: %s", name, error)
            return ()

    def close(self) -> None:
        """Close the database."""
        with self._stored:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know of the database: that it was damaged, and where it is now."""
        return self._store.notices

    # --- what there is ---

    def models(self) -> tuple[Model, ...]:
        """Every model, by id; those that have vanished too (`present` is False)."""
        return self._refresh().models

    def resolve(self, name: str) -> Model:
        """The model of this id, alias or path; a lookup in memory.

        Raises ModelNotFound with close names, AmbiguousModel with the models that share the name.
        """
        model = self._catalog.find(name) or self._refresh().find(name)
        if model is None:
            if sharing := self._catalog.sharing(name):
                raise AmbiguousModel(name, sharing)
            raise ModelNotFound(name, self._catalog.close(name))
        return model

    def fresh(self, model: Model) -> Model:
        """The model as it is on disk now: looked at before every load, read again if a file has changed.

        Raises BadFile when it is gone or cannot be read any more.
        """
        known = self._catalog if model.id in self._catalog.entries else self._refresh()
        entry = known.entries.get(model.id)
        if entry is None:
            raise ModelNotFound(model.id)
        if entry.present and is_unchanged(entry):
            return known.names[entry.id]
        path = entry.found.path
        if not is_there(path):
            self._keep(Outcome("changed", replace(entry, present=False), entry))
            self._refresh()
            raise BadFile(path, "it is gone since it was found; `uml scan` looks for it where it may be now")
        self._keep(settle(entry.found, Index.of([entry]), self._inspect))
        self._refresh()
        return self.resolve(entry.id)

    def _refresh(self) -> catalog.Catalog:
        """The catalog, built anew if this or another process has written since."""
        with self._stored:
            if self._stale or self._store.changed_elsewhere():
                self._catalog = catalog.build((*self._store.entries(), *self._package), self._store.aliases())
                self._stale = False
            return self._catalog

    # --- looking for more ---

    def roots(self) -> tuple[Path, ...]:
        """Folders that `rescan` looks through, besides those of other programs."""
        with self._stored:
            return self._store.roots()

    def scan(self, folder: Path, progress: Progress | None = None) -> ScanReport:
        """Look through a folder, now and at every rescan. Raises BadFile where it is no folder."""
        check_text(folder)
        root = real(folder)
        if not is_folder(root):
            file = "it is a file; give its folder, or run it by its path"
            raise BadFile(root, file if is_there(root) else "there is no such folder")
        with self._scanning:
            with self._stored:
                self._store.add_root(root)
            return self._look(gather((), [root], self._candidates), root, progress)

    def rescan(self, folders: Sequence[Path] = (), progress: Progress | None = None) -> ScanReport:
        """Look again everywhere: other programs' folders, all roots, and these folders, which do not become roots.

        What a user has removed stays away.
        """
        with self._scanning:
            roots = (*self.roots(), *map(real, folders))
            with self._stored:
                removed = self._store.forgotten()
            found = gather(self._shelves(), roots, self._candidates)
            kept = [each for each in found if isinstance(each, BadFile) or each.key not in removed]
            return self._look(kept, progress=progress)

    def add(self, path: Path) -> Model:
        """One file or folder, without its surroundings; one that is known is looked at again.

        A folder that is no model and holds exactly one stands for it. Raises BadFile.
        """
        check_text(path)
        path = absolute(path)
        known = self._catalog.find(str(path)) or self._refresh().find(str(path))
        if known is not None:
            return self.fresh(known)
        if not is_there(path):
            raise cannot_read(path, FileNotFoundError())
        # A scan that runs need not end first: a file that both meet gets one id in the database.
        now = self._refresh()
        index = Index.of(now.entries.values())
        try:
            outcome = settle(Found.at(path), index, self._inspect)
        except UnsupportedFormat as error:
            outcome = settle(Found.at(self._only_model_in(path, error)), index, self._inspect)
        entry = self._keep(outcome, now.names)
        self._refresh()
        return self.resolve(entry.id)

    def _only_model_in(self, path: Path, refusal: UnsupportedFormat) -> Path:
        """The one model below a folder that is none itself."""
        inside = list(self._candidates(path)) if is_folder(path) else []
        if len(inside) > 1:
            some = ", ".join(str(each.relative_to(path)) for each in inside[:3])
            raise BadFile(path, f"it holds {len(inside)} models ({some}, ...); name one, or add all: uml scan {path}")
        if not inside or inside == [path]:
            raise refusal
        return inside[0]

    def _look(
        self, found: Sequence[Found | BadFile], within: Path | None = None, progress: Progress | None = None
    ) -> ScanReport:
        now = self._refresh()
        index = Index.of(now.entries.values())
        report = Scan(index, self._inspect, lambda outcome: self._keep(outcome, now.names)).run(found, within, progress)
        self._refresh()
        return report

    def _keep(self, outcome: Outcome, taken: Container[str] = ()) -> Entry:
        """Store what is new in an outcome; the entry comes back with its id.

        taken: names that mean another model today, so that they must not mean a new one tomorrow.
        """
        entry, before = outcome.entry, outcome.before
        if entry == before or entry.found.source == "package":
            return entry
        with self._stored:
            self._stale = True
            if before is not None:
                self._store.update(entry)
                return entry
            base = names.base_id(entry.found)
            chosen = self._store.add(
                entry, lambda free: names.new_id(base, entry.found.path, lambda n: n not in taken and free(n))
            )
            return replace(entry, id=chosen)

    # --- what a user decides ---

    def remove(self, id: str) -> None:
        """Forget a model and its aliases; its files stay, and only `scan` or `add` brings it back."""
        with self._stored:
            model = self.resolve(id)
            if model.source == "package":
                raise BadRequest(f"{model.id} comes with the program and is always there", param="model")
            self._store.remove(self._catalog.entries[model.id])
            self._stale = True
            self._refresh()

    def remove_root(self, folder: Path) -> tuple[str, ...]:
        """Look through a folder no longer, and forget what was found there; ids of those models."""
        root = real(folder)
        if root not in self.roots():
            known = ", ".join(map(str, self.roots())) or "none"
            raise BadRequest(f"{root} is not one of the model folders; known are: {known}")
        inside = [e for e in self._refresh().entries.values() if e.found.source == "folder"]
        inside = [entry for entry in inside if entry.found.path.is_relative_to(root)]
        with self._stored:
            self._store.remove_root(root)
            for entry in inside:
                self._store.remove(entry)
            self._stale = True
            self._refresh()
        return tuple(entry.id for entry in inside)

    def alias(self, id: str, name: str) -> Model:
        """Give a model one more name; a name given before goes over to it. Raises BadRequest."""
        model = self.resolve(id)
        if not names.is_alias(name):
            raise BadRequest(f"{name!r} is not a name: 1 to {names.MAX_ALIAS} printable characters", param="alias")
        if name.casefold() in self._refresh().entries:
            raise BadRequest(f"{name} is the id of a model; choose another name", param="alias")
        with self._stored:
            self._store.set_alias(name, model.id)
            self._stale = True
            self._refresh()
        return self.resolve(model.id)

    def unalias(self, name: str) -> None:
        """Take back a name that `alias` gave. Raises ModelNotFound, BadRequest of a name that a model has of itself."""
        with self._stored:
            given = {alias.casefold() for alias in self._store.aliases()}
            if name.casefold() not in given:
                if owner := self._refresh().names.get(names.plain(name)):
                    sentence = (
                        f"{name} is a name that {owner.id} has of itself; only a name that was given is taken back"
                    )
                    raise BadRequest(sentence, param="alias")
                raise ModelNotFound(name, [alias for alias in self._catalog.close(name) if alias in given])
            self._store.set_alias(name, None)
            self._stale = True
            self._refresh()


__all__ = ["PACKAGE", "Progress", "Registry", "ScanReport", "Shelf", "packaged_model"]
