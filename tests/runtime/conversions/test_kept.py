"""GGUF files made of older ones, and kept: used while the source is the same, bounded, and gone with it."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.builders import write_legacy, write_tiny_gguf
from tests.legacy_files import small_llama
from uml.core.errors import Cancelled, ConversionFailed, NoRoom
from uml.core.model import Format, Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.formats import inspect
from uml.runtime.conversions import workshop
from uml.runtime.conversions.kept import NOTE, KeptFiles
from uml.runtime.conversions.workshop import Making

ROOM = 1 << 30


def model(path: Path) -> Model:
    return Model(path.stem, inspect(path))


def plan(kept: KeptFiles, wanted: Model) -> LoadPlan:
    stand_in, conversion = kept.stands_in(wanted)
    assert conversion is not None and conversion.source is wanted
    return LoadPlan(stand_in, "x", LoadOptions(), Footprint(0, 0, 0), Placement({}), conversion=conversion)


def make(kept: KeptFiles, wanted: Model) -> Path:
    decided, told = plan(kept, wanted), list[Making]()
    kept.make(decided, told.append, lambda: False)
    assert decided.conversion is not None and decided.asked is wanted
    return decided.conversion.place


def is_needed(kept: KeptFiles, wanted: Model) -> bool:
    conversion = kept.stands_in(wanted)[1]
    return conversion is not None and conversion.needed


def folders(kept: KeptFiles) -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in kept.folder.iterdir())


@pytest.fixture
def kept(tmp_path: Path) -> KeptFiles:
    return KeptFiles(tmp_path / "converted", ROOM)


@pytest.fixture
def old(tmp_path: Path) -> Model:
    small_llama("ggjt1", "Q4_0").write(tmp_path / "old.bin")
    return model(tmp_path / "old.bin")


def test_what_engines_read_as_it_is_stands_for_itself(kept: KeptFiles, tmp_path: Path) -> None:
    new = model(write_tiny_gguf(tmp_path / "new.gguf"))
    assert kept.stands_in(new) == (new, None)
    assert kept.made_of(new.info) is None and kept.drop([new.info]) == 0


def test_it_is_made_once_and_used_from_then_on(kept: KeptFiles, old: Model) -> None:
    stand_in, conversion = kept.stands_in(old)
    assert conversion and conversion.needed
    assert (stand_in.id, stand_in.info.format, stand_in.info.path) == (old.id, Format.GGUF, conversion.place)
    assert not kept.folder.exists()  # a plan makes nothing
    place = make(kept, old)
    stand_in, conversion = kept.stands_in(old)
    assert conversion and not conversion.needed
    assert stand_in.info == inspect(place)
    found = kept.made_of(old.info)
    assert found and (found.place, found.bytes) == (place, place.stat().st_size)
    before = place.stat().st_mtime_ns
    os.utime(place.with_name(NOTE), (1, 1))
    assert make(kept, old) == place and place.stat().st_mtime_ns == before
    assert kept.all()[0].used_ns > 10**9  # it was loaded again


def test_a_changed_source_is_made_anew(kept: KeptFiles, old: Model) -> None:
    make(kept, old)
    small_llama("ggjt3", "F16").write(old.info.path)
    again = model(old.info.path)
    assert is_needed(kept, again)
    place = make(kept, again)
    assert not is_needed(kept, again)
    quantization = inspect(place).quantization
    assert quantization and quantization.label == "F16"
    assert folders(kept) == ["old"]


def test_a_damaged_one_is_made_anew(kept: KeptFiles, old: Model) -> None:
    place = make(kept, old)
    size = place.stat().st_size
    place.write_bytes(bytes(size))
    fresh = KeptFiles(kept.folder, ROOM)
    assert is_needed(fresh, old)
    make(fresh, old)
    assert inspect(place).format is Format.GGUF
    place.write_bytes(b"cut")
    assert is_needed(fresh, old)
    place.with_name(NOTE).write_text("no JSON")
    assert is_needed(fresh, old)


def test_two_models_of_one_name_do_not_meet(kept: KeptFiles, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        small_llama("ggml", seed=ord(name)).write(tmp_path / name / "ggml-model-f16.bin")
    places = {make(kept, model(tmp_path / name / "ggml-model-f16.bin")) for name in ("a", "b")}
    assert len(places) == 2
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "a" / "ggml-model-f16.bin")
    assert kept.place(inspect(link)).parent.name.rpartition("-")[2] in {place.parent.name[-12:] for place in places}


def test_a_failure_leaves_nothing(kept: KeptFiles, old: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Cancelled):
        kept.make(plan(kept, old), lambda making: None, lambda: True)
    assert folders(kept) == []
    monkeypatch.setattr(workshop, "SPARE_BYTES", 1 << 62)
    with pytest.raises(NoRoom):
        make(kept, old)
    assert folders(kept) == []


def test_a_disk_that_is_full_at_the_end_leaves_nothing(
    kept: KeptFiles, old: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is whole then, but for the note that it is."""

    def full(self: Path, text: str, encoding: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    whole = Path.write_text
    monkeypatch.setattr(Path, "write_text", lambda self, *a, **k: (full if NOTE in self.name else whole)(self, *a, **k))
    with pytest.raises(ConversionFailed, match=f"{NOTE}: No space left on device"):
        make(kept, old)
    assert folders(kept) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, old: Model) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(ConversionFailed, match=f"{tmp_path / 'data'}/converted: Not a directory"):
        make(KeptFiles(tmp_path / "data" / "converted", ROOM), old)


class Slow:
    """A conversion that is held in the middle, by what it tells."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, making: Making) -> None:
        self.begun.set()
        assert self.go_on.wait(30)


def test_two_servers_that_want_the_same_make_it_once(kept: KeptFiles, old: Model) -> None:
    other = KeptFiles(kept.folder, ROOM)
    slow, waits, gives_up = Slow(), list[Making](), list[Making]()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(kept.make, plan(kept, old), slow, lambda: False)
        assert slow.begun.wait(30)
        with pytest.raises(Cancelled):
            other.make(plan(other, old), gives_up.append, lambda: bool(gives_up))
        other.sweep()  # as at the start of the second

        def lets_go_on(making: Making) -> None:
            waits.append(making)
            slow.go_on.set()

        second = pool.submit(other.make, plan(other, old), lets_go_on, lambda: False)
        first.result(30)
        second.result(30)
    assert {step.text for step in gives_up + waits} == {"waiting for another conversion"}
    assert not is_needed(kept, old) and inspect(kept.place(old.info)).format is Format.GGUF


def test_beyond_the_budget_the_least_recently_loaded_goes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.bin" for name in "abc"]
    for path in paths:
        small_llama("ggml").write(path)
    one = make(KeptFiles(tmp_path / "measure", ROOM), model(paths[0])).stat().st_size
    kept = KeptFiles(tmp_path / "converted", 2 * one + one // 2)
    for number, path in enumerate(paths[:2]):
        place = make(kept, model(path))
        os.utime(place.with_name(NOTE), (1000 + number, 1000 + number))
    make(kept, model(paths[0]))  # loaded again: b is the older one now
    make(kept, model(paths[2]))
    assert folders(kept) == ["a", "c"]
    assert is_needed(kept, model(paths[1]))


def test_one_that_is_too_large_alone_says_what_to_do(tmp_path: Path, old: Model) -> None:
    with pytest.raises(ConversionFailed, match=r"converted_disk allows 0 KiB; .* uml convert old --to gguf --out PATH"):
        make(KeptFiles(tmp_path / "converted", 0), old)
    assert list((tmp_path / "converted").iterdir()) == []


def test_it_goes_with_the_model(kept: KeptFiles, old: Model) -> None:
    place = make(kept, old)
    size = place.stat().st_size
    assert kept.drop([old.info]) == size
    assert folders(kept) == [] and kept.drop([old.info]) == 0


def test_a_sweep_takes_what_is_of_no_use(kept: KeptFiles, tmp_path: Path) -> None:
    kept.sweep()  # there is no folder yet
    away = tmp_path / "away"
    away.mkdir()
    paths = {name: away / f"{name}.bin" for name in ("gone", "changed", "unmounted", "fine")}
    paths["unmounted"] = tmp_path / "drive" / "unmounted.bin"
    paths["unmounted"].parent.mkdir()
    for path in paths.values():
        make(kept, model(write_legacy(path)))
    (kept.folder / "cut-123").mkdir()
    (kept.folder / "cut-123" / "cut.gguf").write_bytes(b"GGUF")
    (kept.folder / "killed-123" / f"{workshop.MAKING}{2**22 + 1}-x").mkdir(parents=True)
    (kept.folder / "busy-123" / f"{workshop.MAKING}{os.getpid()}-x").mkdir(parents=True)
    paths["gone"].unlink()
    write_legacy(paths["changed"], version=2)
    paths["unmounted"].rename(tmp_path / "elsewhere.bin")
    paths["unmounted"].parent.rmdir()
    kept.sweep()
    assert folders(kept) == ["busy", "fine", "unmounted"]
