"""The database outlives processes, versions and accidents."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.registry.conftest import Shelfless, gguf
from uml.core.errors import FolderNotWritable, ModelNotFound, SetupError
from uml.registry.store import MIGRATIONS, Store


def in_another_process(database: Path, code: str) -> None:
    program = f"""
from pathlib import Path
from tests.registry.conftest import Shelfless
registry = Shelfless(Path({str(database)!r}))
{code}
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_what_another_process_did_is_seen(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "r.sqlite"
    gguf(folder / "yi-q8_0.gguf")
    with Shelfless(database) as registry:
        in_another_process(database, f"registry.scan(Path({str(folder)!r}))")
        assert registry.resolve("yi").id == "yi-q8_0"
        in_another_process(database, "registry.alias('yi', 'mine')")
        assert registry.resolve("mine").id == "yi-q8_0"
        in_another_process(database, "registry.remove('yi')")
        assert [model.id for model in registry.models()] == ["demo"]
        with pytest.raises(ModelNotFound):
            registry.resolve("mine")


def test_two_that_find_the_same_file_give_it_one_id(tmp_path: Path, folder: Path) -> None:
    gguf(folder / "yi.gguf")
    with Shelfless(tmp_path / "r.sqlite") as one, Shelfless(tmp_path / "r.sqlite") as two:
        moment = [True]

        def meanwhile(done: int, total: int, path: Path) -> None:
            if moment.pop():
                two.scan(folder)

        assert one.scan(folder, meanwhile).added == ("yi",)
        assert [model.id for model in two.models()] == ["demo", "yi"]


def test_the_older_id_stays_when_another_met_a_moved_file_as_new(tmp_path: Path, folder: Path) -> None:
    with Shelfless(tmp_path / "r.sqlite") as one, Shelfless(tmp_path / "r.sqlite") as two:
        old = gguf(folder / "yi.gguf")
        one.scan(folder)
        new = old.rename(folder / "new.gguf")

        def meanwhile(done: int, total: int, path: Path) -> None:
            two.remove("yi")
            two.add(new)
            sqlite = sqlite3.connect(tmp_path / "r.sqlite")
            sqlite.execute("INSERT INTO models SELECT 'yi', 'k', path, source, found, info, '', '', '', 1 FROM models")
            sqlite.commit()
            sqlite.close()

        assert one.scan(folder, meanwhile).moved == ("yi",)
        assert [model.id for model in one.models()] == ["demo", "yi"]
        assert [model.id for model in two.models()] == ["demo", "yi"]


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "r.sqlite"
    database.write_bytes(b"this is not a database" * 100)
    gguf(folder / "yi.gguf")
    with Shelfless(database) as registry:
        (notice,) = registry.notices
        assert "was damaged (file is not a database); it was set aside as r.sqlite.damaged-" in notice
        assert registry.scan(folder).added == ("yi",)
    (aside,) = tmp_path.glob("r.sqlite.damaged-*")
    assert aside.read_bytes().startswith(b"this is not")
    with Shelfless(database) as registry:
        assert registry.notices == ()
        assert registry.resolve("yi").present


def test_damage_in_the_middle_of_the_file_is_seen_at_the_start(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "r.sqlite"
    for number in range(30):
        gguf(folder / f"m{number}.gguf")
    with Shelfless(database) as registry:
        registry.scan(folder)
    content = bytearray(database.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    database.write_bytes(content)
    with Shelfless(database) as registry:
        assert "malformed" in registry.notices[0]
        assert [model.id for model in registry.models()] == ["demo"]


def test_damage_while_it_is_open_is_one_sentence_and_then_mended(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "r.sqlite"
    gguf(folder / "yi.gguf")
    with Shelfless(database) as registry, Shelfless(database) as other:
        registry.scan(folder)
        other.alias("demo", "x")  # what the first one holds in memory is old now
        for part in (database, database.with_name("r.sqlite-wal")):
            part.write_bytes(b"\xff" * part.stat().st_size)
        with pytest.raises(SetupError, match="it was set aside as"):
            registry.models()
        assert [model.id for model in registry.models()] == ["demo"]
        assert registry.scan(folder).added == ("yi",)
        assert [model.id for model in other.models()] == ["demo", "yi"]


def test_a_database_that_is_deleted_is_begun_anew(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "r.sqlite"
    gguf(folder / "yi.gguf")
    with Shelfless(database) as registry:
        registry.scan(folder)
        for part in tmp_path.glob("r.sqlite*"):
            part.unlink()
        assert [model.id for model in registry.models()] == ["demo"]
        assert registry.scan(folder).added == ("yi",)
    assert database.exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderNotWritable, match="it is not a folder"):
        Shelfless(tmp_path / "file" / "r.sqlite")
    (tmp_path / "r.sqlite").mkdir()
    with pytest.raises(FolderNotWritable, match="unable to open database file"):
        Shelfless(tmp_path / "r.sqlite")


def test_a_lock_that_is_held_too_long_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.registry.store.BUSY_TIMEOUT_S", 0.05)
    with Shelfless(tmp_path / "r.sqlite") as registry:
        other = sqlite3.connect(tmp_path / "r.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SetupError, match="cannot be used: database is locked"):
            registry.alias("demo", "x")
        other.close()
        assert registry.alias("demo", "x").aliases[0] == "x"


def test_a_file_of_an_older_version_is_brought_forward(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "r.sqlite"
    gguf(folder / "yi.gguf")
    with Shelfless(database) as registry:
        registry.scan(folder)
    newer = (*MIGRATIONS, ("CREATE TABLE more (x)", "INSERT INTO more VALUES (1)"))
    for _ in range(2):
        store = Store(database, newer)
        assert [entry.id for entry in store.entries()] == ["yi"]
        store.close()
    check = sqlite3.connect(database)
    assert check.execute("SELECT * FROM more").fetchall() == [(1,)]
    check.close()
    schemas = rf"schema {len(newer)}, known {len(MIGRATIONS)}"
    with pytest.raises(SetupError, match=rf"newer version of this program \({schemas}\)"):
        Shelfless(database)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    Store(tmp_path / "r.sqlite").close()
    with pytest.raises(SetupError, match="syntax error"):
        Store(tmp_path / "r.sqlite", (*MIGRATIONS, ("CREATE TABLE more (x)", "nonsense")))
    Store(tmp_path / "r.sqlite", (*MIGRATIONS, ("CREATE TABLE more (x)",))).close()


@pytest.mark.parametrize("column", ["info", "found"])
def test_a_row_of_another_version_keeps_its_id_and_is_read_again(tmp_path: Path, folder: Path, column: str) -> None:
    database = tmp_path / "r.sqlite"
    path = gguf(folder / "yi.gguf")
    with Shelfless(database) as registry:
        registry.scan(folder)
    raw = sqlite3.connect(database)
    raw.execute(f'UPDATE models SET {column} = \'{{"from": "the future"}}\'')
    raw.commit()
    raw.close()
    with Shelfless(database) as registry:
        waiting = registry.resolve("yi")
        assert waiting.info.reason == "not read by this version yet"
        assert registry.fresh(waiting).info.context_length == 256
        assert registry.scan(folder).unchanged == ("yi",)
        assert registry.resolve(str(path)).id == "yi"


def test_a_new_file_can_be_opened_by_many_at_once(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from uml.registry import Registry
sys.stdin.readline()
Registry(Path({str(tmp_path / "r.sqlite")!r}), shelves=tuple).alias("demo", sys.argv[1])
"""
    started = [
        subprocess.Popen([sys.executable, "-c", code, f"name{number}"], stdin=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()
    assert [process.wait(30) for process in started] == [0] * 4
    with Shelfless(tmp_path / "r.sqlite") as registry:
        assert registry.resolve("demo").aliases[:4] == ("name0", "name1", "name2", "name3")


def test_a_new_file_that_stays_locked_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.registry.store.BUSY_TIMEOUT_S", 0.05)
    other = sqlite3.connect(tmp_path / "r.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SetupError, match="cannot be used: database is locked"):
        Shelfless(tmp_path / "r.sqlite")
    other.close()
    Shelfless(tmp_path / "r.sqlite").close()


def test_a_mistake_of_ours_is_no_damage(tmp_path: Path) -> None:
    with Shelfless(tmp_path / "r.sqlite") as registry:
        with pytest.raises(sqlite3.ProgrammingError):
            registry.profiles.keep(("no", "text"), {"ctx": 1})  # type: ignore[arg-type]
        assert not registry.notices and [model.id for model in registry.models()]
    assert not list(tmp_path.glob("*.damaged-*"))
