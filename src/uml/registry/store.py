"""SQLite: what is kept between runs, and shared with other processes of the same user."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from uml.config import ensure_writable
from uml.core.errors import FolderNotWritable, SetupError
from uml.core.model import Format, ModelInfo, Role
from uml.registry.codec import CodecError, from_json, to_json
from uml.registry.entries import Entry, Found

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S: Final = 5.0

Migration = Sequence[str]

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        "CREATE TABLE models (id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, path TEXT NOT NULL, "
        "source TEXT NOT NULL, found TEXT NOT NULL, info TEXT NOT NULL, real TEXT NOT NULL, "
        "signature TEXT NOT NULL, fingerprint TEXT NOT NULL, present INTEGER NOT NULL)",
        "CREATE TABLE aliases (alias TEXT PRIMARY KEY COLLATE NOCASE, model TEXT NOT NULL)",
        "CREATE TABLE roots (path TEXT PRIMARY KEY)",
        "CREATE TABLE forgotten (key TEXT PRIMARY KEY)",
    ),
    (
        "CREATE TABLE measurements (identity TEXT NOT NULL, engine TEXT NOT NULL, build TEXT NOT NULL, "
        "options TEXT NOT NULL, found TEXT NOT NULL, at REAL NOT NULL, "
        "PRIMARY KEY (identity, engine, build, options))",
        "CREATE INDEX measurements_by_age ON measurements (at)",
    ),
    ("CREATE TABLE pins (model TEXT PRIMARY KEY, options TEXT NOT NULL)",),
    ("CREATE TABLE profiles (model TEXT PRIMARY KEY, options TEXT NOT NULL)",),
)
"""Step n brings a file from version n to n + 1 (`PRAGMA user_version`). Add at the end, never edit."""


class Store:
    """The database file. Not safe for threads: the registry holds a lock around every call.

    Every method raises SetupError where the file cannot be used; one that is damaged is set aside
    under another name, and an empty one takes its place.
    """

    def __init__(self, database: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self.database = database
        self.notices: tuple[str, ...] = ()
        self._migrations = migrations
        self._decoded: dict[str, tuple[tuple[Any, ...], Entry]] = {}
        self._seen_version = -1
        ensure_writable(database.parent)
        with self._door(lost_something=False):
            self._open()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _open(self) -> None:
        self._db = sqlite3.connect(self.database, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            self._use_wal()
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._migrate()
            self._inode = self._inode_now()
            self._read()  # a damaged page shows now, and not in the middle of a request
        except BaseException:
            self._db.close()
            raise

    def _use_wal(self) -> None:
        """Let others read while one writes. SQLite does not wait by itself for its turn to switch a new file over."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _migrate(self) -> None:
        newest = len(self._migrations)
        version = self._pragma("user_version")
        if version > newest:
            raise SetupError(
                f"{self.database} was written by a newer version of this program (schema {version}, known {newest}); "
                "install that one, or point UML_DATA at another folder"
            )
        if version == newest:
            return
        with self._transaction():
            # Under the lock it is looked at again: another process may have taken the same steps.
            for step in range(self._pragma("user_version"), newest):
                for statement in self._migrations[step]:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {step + 1}")

    def _inode_now(self) -> int:
        try:
            return self.database.stat().st_ino
        except FileNotFoundError:
            return 0

    def _pragma(self, name: str) -> int:
        (value,) = self._db.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _door(self, lost_something: bool = True) -> Iterator[None]:
        """Where SQLite's errors become ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                raise FolderNotWritable(self.database, str(error)) from error
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                raise FolderNotWritable(self.database, str(error), full=True) from error
            raise SetupError(f"the registry {self.database} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise  # a mistake of ours; of damage SQLite says no more than this
            self._set_aside(error)
            self._open()
            self._seen_version = -1  # what the catalog was built of is no longer there
            if lost_something:
                raise SetupError(self.notices[-1]) from error

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Rename the damaged file, so that nothing of it is lost; the next one begins empty."""
        self._db.close()
        self._decoded.clear()
        aside = f"{self.database.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.database.with_name(self.database.name + suffix).rename(self.database.with_name(aside + suffix))
        except OSError as failure:
            raise FolderNotWritable(self.database.parent, failure.strerror or str(failure)) from failure
        notice = f"the registry {self.database} was damaged ({error}); it was set aside as {aside} and begun anew"
        self.notices = (*self.notices, notice)
        log.warning("%s", notice)

    def changed_elsewhere(self) -> bool:
        """Whether another process has written since `entries` was last called. Takes microseconds."""
        with self._door():
            if self._inode_now() != self._inode:  # deleted, or set aside: what we wrote would be lost
                self._db.close()
                self._open()
                return True
            return self._pragma("data_version") != self._seen_version

    def entries(self) -> list[Entry]:
        """Every model kept. A row that is as it was at the last call is not decoded again."""
        with self._door():
            return self._read()

    def _read(self) -> list[Entry]:
        self._seen_version = self._pragma("data_version")
        rows = self._db.execute(
            "SELECT id, key, path, source, found, info, real, signature, fingerprint, present FROM models"
        ).fetchall()
        decoded = {}
        for row in rows:
            known = self._decoded.get(row[0])
            decoded[row[0]] = known if known and known[0] == row else (row, _entry(row))
        self._decoded = decoded
        return [entry for _, entry in decoded.values()]

    def add(self, entry: Entry, choose: Callable[[Callable[[str], bool]], str]) -> str:
        """Keep a new model under an id that `choose` picks with the help of `is it free?`; returns the id.

        Where another process has just kept the same key, its id stays.
        """
        with self._door(), self._transaction():
            row = self._db.execute("SELECT id FROM models WHERE key = ?", (entry.found.key,)).fetchone()
            chosen = row[0] if row else choose(self._is_free)
            self._db.execute("INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _row(chosen, entry))
            self._db.execute("DELETE FROM forgotten WHERE key = ?", (entry.found.key,))
            return str(chosen)

    def _is_free(self, name: str) -> bool:
        taken = "SELECT 1 FROM models WHERE id = ? UNION ALL SELECT 1 FROM aliases WHERE alias = ?"
        return self._db.execute(taken, (name, name)).fetchone() is None

    def update(self, entry: Entry) -> None:
        """Keep what is now known of a model, under its id. One that was removed meanwhile stays away."""
        with self._door(), self._transaction():
            # The older id wins where another process met the same key as a new model.
            self._db.execute("DELETE FROM models WHERE key = ? AND id != ?", (entry.found.key, entry.id))
            self._db.execute(
                "UPDATE models SET id = ?, key = ?, path = ?, source = ?, found = ?, info = ?, real = ?, "
                "signature = ?, fingerprint = ?, present = ? WHERE id = ?",
                (*_row(entry.id, entry), entry.id),
            )

    def remove(self, entry: Entry) -> None:
        """Forget a model and all that was kept of it; remember its key, so that a rescan does not bring it back."""
        with self._door(), self._transaction():
            self._db.execute("DELETE FROM models WHERE id = ?", (entry.id,))
            self._db.execute("DELETE FROM aliases WHERE model = ?", (entry.id,))
            self._db.execute("DELETE FROM pins WHERE model = ?", (entry.id,))
            self._db.execute("DELETE FROM profiles WHERE model = ?", (entry.id,))
            self._db.execute("INSERT OR IGNORE INTO forgotten VALUES (?)", (entry.found.key,))

    def forgotten(self) -> frozenset[str]:
        """Keys of models that a user removed."""
        return frozenset(self._column("SELECT key FROM forgotten"))

    def aliases(self) -> dict[str, str]:
        """Aliases given by the user, and whose they are."""
        with self._door():
            return dict(self._db.execute("SELECT alias, model FROM aliases ORDER BY alias"))

    def set_alias(self, alias: str, model: str | None) -> None:
        """Give an alias to a model, or to nobody."""
        with self._door(), self._transaction():
            self._db.execute("DELETE FROM aliases WHERE alias = ?", (alias,))
            if model is not None:
                self._db.execute("INSERT INTO aliases VALUES (?, ?)", (alias, model))

    def roots(self) -> tuple[Path, ...]:
        """Folders that are looked through."""
        return tuple(Path(path) for path in self._column("SELECT path FROM roots ORDER BY path"))

    def add_root(self, folder: Path) -> None:
        """Look through this folder from now on."""
        with self._door(), self._transaction():
            self._db.execute("INSERT OR IGNORE INTO roots VALUES (?)", (str(folder),))

    def remove_root(self, folder: Path) -> None:
        """Look through this folder no longer."""
        with self._door(), self._transaction():
            self._db.execute("DELETE FROM roots WHERE path = ?", (str(folder),))

    def select(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._door():
            return self._db.execute(query, values).fetchall()

    def change(self, *steps: tuple[str, Sequence[object]]) -> None:
        """Carry out statements with their values, all or none."""
        with self._door(), self._transaction():
            for statement, values in steps:
                self._db.execute(statement, tuple(values))

    def _column(self, query: str) -> list[str]:
        with self._door():
            return [value for (value,) in self._db.execute(query)]


def _row(chosen: str, entry: Entry) -> tuple[Any, ...]:
    found = entry.found
    return (
        chosen,
        found.key,
        str(found.path),
        found.source,
        to_json(found),
        to_json(entry.info),
        entry.real,
        entry.signature,
        entry.fingerprint,
        int(entry.present),
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    """A row as an entry. What another version wrote in a way that we do not read keeps its id and
    loses its signature, so that the next look at it reads the file again."""
    id, key, path, source, found_text, info_text, real, signature, fingerprint, present = row
    try:
        found = from_json(Found, found_text)
        info = from_json(ModelInfo, info_text)
    except CodecError as error:
        log.info("%s will be read again: %s", id, error)
        found = Found(key, Path(path), source)
        info = ModelInfo(Path(path), Format.UNKNOWN, Role.UNKNOWN, 0.0, "not read by this version yet", 0)
        signature = ""
    return Entry(id, found, info, real, signature, fingerprint, bool(present))
