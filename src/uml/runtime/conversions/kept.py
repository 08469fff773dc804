"""GGUF files that models of older formats were made into when they were first loaded: kept while those do not change.

`converted/NAME-MARK/NAME.gguf`, and beside it a note of what it was made of, written last: a file without one was
never finished. MARK is of the source's path. The note's time is when the file was last loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Final

from uml.core.errors import Cancelled, ConversionFailed, UmlError, gib
from uml.core.model import Format, Model, ModelInfo
from uml.core.plan import Conversion, LoadPlan
from uml.formats import inspect
from uml.formats.legacy.model import foreseen, is_convertible
from uml.runtime.conversions import legacy
from uml.runtime.conversions.packing import Confine
from uml.runtime.conversions.workshop import Making, sweep, trouble

log = logging.getLogger(__name__)

NOTE: Final = "made.json"
VERSION: Final = 1
"""Of what is made; what an older version made is made anew."""
LOOK_S: Final = 0.1
"""How often it is seen whether another conversion is over."""

Marks = list[list[object]]
"""Path, size and time of every file of a source."""
Look = Callable[[], ModelInfo | None]


@dataclass(frozen=True, slots=True)
class Kept:
    """One file. source: what it was made of. used_ns: when it was last loaded, since 1970."""

    place: Path
    source: Marks
    bytes: int
    used_ns: int

    @property
    def is_stale(self) -> bool:
        """Whether the source is another by now, or gone though the folder that it was in is there."""
        if _gone(self.source):
            return Path(str(self.source[0][0])).parent.is_dir()
        return _marks([Path(str(path)) for path, _, _ in self.source]) != self.source


class KeptFiles:
    """All of them, within a budget of bytes; those that were not loaded for longest go first. From any thread."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder = folder
        self.budget_bytes = budget_bytes
        self._known: dict[Path, tuple[Marks, ModelInfo | None]] = {}
        self._lock = Lock()

    def stands_in(self, model: Model) -> tuple[Model, Conversion | None]:
        """What an engine gets for a model: itself, or the GGUF that it was made into, or will be. Reads headers only.

        Raises BadFile, and its kinds, where the file cannot be read any more.
        """
        if not is_convertible(model.info):
            return model, None
        place = self.place(model.info)
        there = self._remembered((place,), lambda: _sound(place)) if self.made_of(model.info) else None
        info = there or self._remembered(model.info.files, lambda: foreseen(model.info.path, place))
        assert info is not None  # what is foreseen is told, or raises
        return replace(model, info=info), Conversion(model, place, needed=there is None)

    def place(self, info: ModelInfo) -> Path:
        """Where the GGUF of this model lies, or would."""
        mark = hashlib.sha256(os.fsencode(os.path.realpath(info.path))).hexdigest()[:12]
        return self.folder / f"{info.path.stem[:80]}-{mark}" / f"{info.path.stem}.gguf"

    def made_of(self, info: ModelInfo) -> Kept | None:
        """What this model was made into, where it is there and of use."""
        kept = self._read(self.place(info).parent) if is_convertible(info) else None
        return kept if kept and kept.source == _marks(info.files) else None

    def all(self) -> tuple[Kept, ...]:
        """Every file, that which was not loaded for longest first."""
        found = (self._read(folder) for folder in self.folder.glob("*/")) if self.folder.is_dir() else ()
        return tuple(sorted(filter(None, found), key=lambda kept: kept.used_ns))

    def make(
        self,
        plan: LoadPlan,
        tell: Callable[[Making], None],
        cancelled: Callable[[], bool],
        confine: Confine = lambda launch: launch,
    ) -> None:
        """Carry out a plan's conversion, unless the file is there. Fits `uml.runtime.workers.converting.Converter`.

        One at a time, whichever server of this data folder it is for: each removes what stands in its way.
        Raises ConversionFailed, NoRoom, OutOfMemory, Cancelled, BadFile and its kinds.
        """
        assert plan.conversion is not None
        source, place = plan.conversion.source, plan.conversion.place
        if self._is_there(source, place):
            return
        try:
            with self._alone(source, tell, cancelled):
                if not self._is_there(source, place):
                    self._make(plan, plan.conversion, tell, cancelled, confine)
        except OSError as error:
            raise ConversionFailed(source.id, trouble(error, place)) from error

    def _is_there(self, source: Model, place: Path) -> bool:
        """Whether it need not be made; then it counts as loaded now."""
        if not self.made_of(source.info) or not _sound(place):
            return False
        with suppress(OSError):
            os.utime(place.with_name(NOTE))
        return True

    def _make(
        self,
        plan: LoadPlan,
        conversion: Conversion,
        tell: Callable[[Making], None],
        cancelled: Callable[[], bool],
        confine: Confine,
    ) -> None:
        source, place = conversion.source, conversion.place
        marks = _marks(source.info.files)
        try:
            self._make_room(source, place, sum(plan.model.info.weight_bytes.values()))
            legacy.convert(legacy.Order(source.id, source.info, place), tell, cancelled, confine)
            _write_note(place, marks)
            if self.made_of(source.info) is None:
                # Whoever plans the load would have it made again, and again.
                raise ConversionFailed(source.id, "its file changed meanwhile; ask again")
        except BaseException:
            shutil.rmtree(place.parent, ignore_errors=True)
            raise

    @contextmanager
    def _alone(self, source: Model, tell: Callable[[Making], None], cancelled: Callable[[], bool]) -> Iterator[None]:
        """While this lasts nobody else makes a file here. Raises Cancelled, OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            while not _locked(folder):
                if cancelled():
                    raise Cancelled(f"{source.id} is not made into GGUF: it was stopped")
                tell(Making("waiting for another conversion", 0))
                time.sleep(LOOK_S)
            yield
        finally:
            os.close(folder)

    def drop(self, infos: Iterable[ModelInfo]) -> int:
        """Remove what these models were made into; how many bytes."""
        freed = 0
        for info in infos:
            if is_convertible(info):
                folder = self.place(info).parent
                freed += sum(file.stat().st_size for file in folder.glob("*.gguf")) if folder.is_dir() else 0
                shutil.rmtree(folder, ignore_errors=True)
        return freed

    def sweep(self) -> None:
        """Remove what was never finished, and what is of no use any more; nothing while a file is being made."""
        try:
            folder = os.open(self.folder, os.O_RDONLY)
        except OSError:
            return  # there is none yet; one that cannot be read is told of by the first conversion
        try:
            if _locked(folder):
                self._sweep()
        finally:
            os.close(folder)

    def _sweep(self) -> None:
        for folder in self.folder.glob("*/"):
            sweep(folder)
            kept = self._read(folder)
            at_work = any(folder.glob(".*"))  # of a process that lives, or it would have been swept
            if not at_work and (kept is None or kept.is_stale):
                shutil.rmtree(folder, ignore_errors=True)

    def _make_room(self, source: Model, place: Path, needed: int) -> None:
        """Have old files go until there is room for one more. Raises ConversionFailed where it alone is too large."""
        if needed > self.budget_bytes:
            raise ConversionFailed(
                source.id,
                f"as GGUF it takes {gib(needed)}, and the setting converted_disk allows {gib(self.budget_bytes)}; "
                f"allow more, or make a file of your own: uml convert {source.id} --to gguf --out PATH",
            )
        shutil.rmtree(place.parent, ignore_errors=True)  # made of another content, or never finished
        kept = list(self.all())
        while kept and sum(one.bytes for one in kept) + needed > self.budget_bytes:
            gone = kept.pop(0)
            log.info("%s is removed, so that %s can be kept as GGUF", gone.place, source.id)
            shutil.rmtree(gone.place.parent, ignore_errors=True)

    def _remembered(self, files: Sequence[Path], look: Look) -> ModelInfo | None:
        """What a look at these files tells, until they change: planning asks over and over."""
        now = _marks(files)
        with self._lock:
            before, found = self._known.get(files[0], ([], None))
        if before != now or not now:
            found = look()
            with self._lock:
                self._known[files[0]] = now, found
        return found

    def _read(self, folder: Path) -> Kept | None:
        """What the note in a folder says; None where there is none, or the file is not what it says."""
        try:
            note = folder / NOTE
            said = json.loads(note.read_text(encoding="utf-8"))
            place = folder / str(said["file"])
            if said["version"] != VERSION or place.stat().st_size != said["bytes"]:
                return None
            source = [[str(path), int(size), int(written)] for path, size, written in said["source"]]
            return Kept(place, source, int(said["bytes"]), note.stat().st_mtime_ns) if source else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _marks(paths: Sequence[Path]) -> Marks:
    """Empty where a file is gone."""
    try:
        found = [(path, path.stat()) for path in paths]
    except OSError:
        return []
    return [[str(path), status.st_size, status.st_mtime_ns] for path, status in found]


def _sound(place: Path) -> ModelInfo | None:
    """What a file that was made says; None for one that was damaged since, and is to be made anew."""
    try:
        found = inspect(place)
    except UmlError:
        return None
    return found if found.format is Format.GGUF else None


def _locked(folder: int) -> bool:
    """Take the lock of an open folder; its end is that of the descriptor. Also where there are no locks."""
    try:
        import fcntl
    except ImportError:  # not a Unix
        return True
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a disk on the net that has none
    return True


def _gone(source: Marks) -> bool:
    return not all(Path(str(path)).exists() for path, _, _ in source)


def _write_note(place: Path, marks: Marks) -> None:
    said = {"version": VERSION, "file": place.name, "bytes": place.stat().st_size, "source": marks}
    unfinished = place.with_name(f".{NOTE}")
    unfinished.write_text(json.dumps(said), encoding="utf-8")
    unfinished.replace(place.with_name(NOTE))
