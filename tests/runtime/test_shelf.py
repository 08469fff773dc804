"""Stories of what is saved on disk: what stays, what goes, and what is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml.core.engine import SessionKey
from uml.core.errors import FolderNotWritable
from uml.runtime.sessions.shelf import Kept, Mark, Shelf, fingerprint, leaving


def kept(name: str, size: int = 100, at: int = 1, marks: tuple[Mark, ...] = (), model: str = "demo") -> Kept:
    return Kept(model, name, "print", 10, size, at, marks)


def saved(shelf: Shelf, one: Kept, settle: bool = True) -> Kept:
    """As a worker and then we leave it."""
    shelf.folder_of(one.model)
    shelf.path(one.model, one.name).write_bytes(b"x" * one.bytes)
    shelf.add(one)
    if settle:
        shelf.settle(one)
    return one


def opened(folder: Path, budget: int = 1000) -> Shelf:
    shelf = Shelf(folder / "sessions", budget)
    shelf.open()
    return shelf


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("sessions/*/*"))


@given(st.lists(st.integers(1, 50), max_size=8), st.integers(0, 300), st.integers(-50, 200))
def test_no_more_goes_than_must(sizes: list[int], needed: int, room: int) -> None:
    shelf = [kept(str(number), size) for number, size in enumerate(sizes)]
    gone = leaving(shelf, needed, room)
    if gone is None:
        assert sum(sizes) + room < needed
    else:
        assert list(gone) == shelf[: len(gone)]
        assert room + sum(one.bytes for one in gone) >= needed or not gone
        assert not gone or room + sum(one.bytes for one in gone[:-1]) < needed


def test_what_was_saved_is_found_by_the_next_server(tmp_path: Path) -> None:
    one = saved(opened(tmp_path), kept("one", at=1))
    two = saved(opened(tmp_path), kept("two", at=2))
    shelf = opened(tmp_path)
    assert shelf.find("demo", "print") == (two, one)
    assert shelf.find("demo", "another print") == ()
    assert shelf.find("another", "print") == ()
    assert shelf.total_bytes == 200


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    saved(opened(tmp_path), kept("one"))
    assert [oct(path.stat().st_mode & 0o777) for path in tmp_path.glob("sessions/*/*.json")] == ["0o600"]
    for folder in (tmp_path / "sessions", tmp_path / "sessions" / "demo"):
        assert oct(folder.stat().st_mode & 0o777) == "0o700"


def test_what_was_never_finished_is_removed(tmp_path: Path) -> None:
    shelf = opened(tmp_path)
    saved(shelf, kept("killed-in-between"), settle=False)
    saved(shelf, kept("cut"))
    shelf.path("demo", "cut").write_bytes(b"x")
    saved(shelf, kept("older-format"))
    note = shelf.path("demo", "older-format").with_suffix(".json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "version": 0}))
    saved(shelf, kept("garbled"))
    shelf.path("demo", "garbled").with_suffix(".json").write_text("{")
    (shelf.folder / "gone").mkdir()
    assert opened(tmp_path).total_bytes == 0
    assert list(shelf.folder.iterdir()) == []


def test_a_model_that_is_gone_or_another_takes_its_conversations_along(tmp_path: Path) -> None:
    changed, removed, same = (tmp_path / name for name in ("changed", "removed", "same"))
    shelf = opened(tmp_path)
    for path in (changed, removed, same):
        path.write_bytes(b"weights")
        saved(shelf, kept(path.name, marks=(Mark.of(path),)))
    changed.write_bytes(b"other weights")
    removed.unlink()
    assert [one.name for one in opened(tmp_path).find("demo", "print")] == ["same"]
    shelf.drop_stale()
    assert files(tmp_path) == ["same.json", "same.kv"]


def test_a_fingerprint_is_of_content_and_not_of_place(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"weights")
    first, _ = fingerprint(SessionKey((model,), {"cache": "f16"}))
    moved = model.rename(tmp_path / "moved.gguf")
    assert fingerprint(SessionKey((moved,), {"cache": "f16"}))[0] == first
    assert fingerprint(SessionKey((moved,), {"cache": "q8_0"}))[0] != first
    os.utime(moved, ns=(1, 1))
    assert fingerprint(SessionKey((moved,), {"cache": "f16"}))[0] != first
    with pytest.raises(FileNotFoundError):
        fingerprint(SessionKey((model,), {}))


def test_the_least_recently_used_makes_room(tmp_path: Path) -> None:
    shelf = opened(tmp_path, budget=300)
    for at in (3, 1, 2):
        saved(shelf, kept(str(at), at=at))
    assert shelf.make_room(150, before_ns=9, superseded=None) == ""
    assert files(tmp_path) == ["3.json", "3.kv"]


def test_what_is_saved_again_goes_before_all_others(tmp_path: Path) -> None:
    shelf = opened(tmp_path, budget=300)
    old, own = saved(shelf, kept("old", at=1)), saved(shelf, kept("own", at=2))
    assert shelf.make_room(150, before_ns=9, superseded=own) == ""
    assert shelf.find("demo", "print") == (old,)


def test_nothing_goes_where_it_would_not_help(tmp_path: Path) -> None:
    shelf = opened(tmp_path, budget=300)
    saved(shelf, kept("old", at=1))
    fresh = saved(shelf, kept("fresh", at=7))
    assert "session_disk allows 0 KiB" in shelf.make_room(301, before_ns=9, superseded=None)
    assert "no room" in shelf.make_room(250, before_ns=fresh.saved_ns, superseded=None)
    assert shelf.total_bytes == 200


def test_a_disk_is_never_filled(tmp_path: Path) -> None:
    shelf = opened(tmp_path, budget=1 << 60)
    assert "no room for it on the disk" in shelf.make_room(1 << 59, before_ns=9, superseded=None)


def test_a_smaller_budget_is_kept_at_the_next_start(tmp_path: Path) -> None:
    shelf = opened(tmp_path)
    for at, size in ((1, 100), (2, 100), (3, 350), (4, 100)):
        saved(shelf, kept(str(at), size, at))
    smaller = opened(tmp_path, budget=220)
    # First what does not fit in by itself, then the oldest.
    assert [one.name for one in smaller.find("demo", "print")] == ["4", "2"]


def test_switched_off_nothing_stays(tmp_path: Path) -> None:
    shelf = opened(tmp_path)
    saved(shelf, kept("one"))
    shelf.clear()
    assert not shelf.folder.exists()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sessions").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderNotWritable):
        opened(tmp_path)
