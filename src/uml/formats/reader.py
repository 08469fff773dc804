"""A bounded cursor over a file that a stranger wrote.

Reads go through one small window instead of a memory map: a file that shrinks while it is read (a
download that starts over) gives an error here, and SIGBUS, the end of the process, with a map.
Whatever the file claims, no more than `READ_BUDGET` bytes of it are read and no more than
`STRING_BUDGET` strings are stepped over.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, Literal

from uml.core.errors import BadFile, CorruptFile

Order = Literal["<", ">"]

FIRST_WINDOW = 64 << 10
WINDOW = 1 << 20
READ_BUDGET = 256 << 20
"""Bytes: the largest header seen in the wild (262,000 tokens, 514,000 merges) has 20 MiB."""
STRING_BUDGET = 2_000_000
"""Strings in arrays of one file: the largest vocabulary and its merges have 800,000."""

TEXT_BUDGET = 8 << 20
"""Bytes of strings copied out of one file."""

_SIZES = {"B": 1, "b": 1, "?": 1, "H": 2, "h": 2, "I": 4, "i": 4, "f": 4, "Q": 8, "q": 8, "d": 8}


Through = Callable[[Path, BinaryIO], BinaryIO]
"""From an open file to what it is read through."""

_through: ContextVar[Through | None] = ContextVar("through", default=None)


@contextmanager
def read_through(through: Through) -> Iterator[None]:
    """Inside, on this thread, every file is read through what `through` makes of it.

    For files whose bytes come from elsewhere as they are read. The file itself must be there, with its full size.
    """
    token = _through.set(through)
    try:
        yield
    finally:
        _through.reset(token)


def cannot_read(path: Path, error: OSError) -> BadFile:
    """The operating system's refusal as one sentence."""
    match error:
        case FileNotFoundError():
            if os.path.islink(path):  # noqa: PTH114  # the other one raises
                return BadFile(path, f"it is a link to {path.readlink()}, and nothing is there")
            return BadFile(path, "there is no such file or folder")
        case PermissionError():
            return BadFile(path, "permission to read it is denied")
        case _:
            return BadFile(path, f"cannot be read: {error.strerror or error}")


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file, open, and its size in bytes. Raises BadFile; so does a failing read inside."""
    try:
        with os.fdopen(_descriptor(path), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadFile(path, "is not a regular file")
            through = _through.get()
            yield (through(path, file) if through else file), status.st_size
    except OSError as error:
        raise cannot_read(path, error) from error


def _descriptor(path: Path) -> int:
    # Non-blocking: opening a named pipe would wait for its writer forever.
    return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))


def read_start(path: Path, count: int) -> bytes:
    """The first bytes of a file, `count` at most. Raises BadFile."""
    with opened(path) as (file, _):
        return file.read(count)


def read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    """`count` bytes from `offset` on, fewer at the end of the file; a raw read may give less than it is asked for."""
    file.seek(offset)
    parts = []
    while count > 0 and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class Cursor:
    """Reads numbers and strings one after the other; every read is checked against the file's size.

    at: offset of the next byte, never beyond `size`. Every method raises CorruptFile, and names what
    was to be read with `what`. window: bytes read ahead at once.
    """

    def __init__(self, path: Path, file: BinaryIO, size: int, order: Order = "<", window: int = WINDOW) -> None:
        self.path = path
        self.size = size
        self.order: Order = order
        self.at = 0
        self._file = file
        self._ahead = window
        self._window = b""
        self._start = 0
        self._budget = READ_BUDGET
        self._strings = STRING_BUDGET
        self._text = TEXT_BUDGET

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return self.size - self.at

    def number(self, code: str, what: str) -> int:
        """An integer; `code` as in `struct`: B b H h I i Q q."""
        return int(self._unpack(code, what))

    def scalar(self, code: str, what: str) -> int | float | bool:
        """A number of any kind: the codes of `number`, and f d ?."""
        return self._unpack(code, what)

    def numbers(self, code: str, count: int, what: str) -> tuple[int | float | bool, ...]:
        """`count` numbers in a row; the caller has bounded the count."""
        raw = self.raw(count * _SIZES[code], what)
        return struct.unpack(f"{self.order}{count}{code}", raw)

    def raw(self, count: int, what: str) -> bytes:
        """`count` bytes; the caller has bounded the count."""
        self._need(count, what)
        begin = self._fill(count)
        self.at += count
        return self._window[begin : begin + count]

    def skip(self, count: int, what: str) -> None:
        """Step over `count` bytes."""
        self._need(count, what)
        self.at += count

    def string(self, what: str, limit: int) -> str | None:
        """A string with its length before it (u64).

        None, and stepped over, where it has more than `limit` bytes or the budget of the file is spent.
        """
        length = self.number("Q", f"the length of {what}")
        if length > min(limit, self._text):
            self.skip(length, what)
            return None
        self._text -= length
        return self.raw(length, what).decode("utf-8", "replace")

    def skip_strings(self, count: int, what: str) -> None:
        """Step over `count` strings of which only the lengths (u64) are looked at."""
        self.check_count(count, 8, what)
        self._strings -= count
        if self._strings < 0:
            raise CorruptFile(
                self.path, f"{what} claims {count} strings", f"at most {STRING_BUDGET} in a file", self.at
            )
        unpack = struct.Struct(f"{self.order}Q").unpack_from
        while count:
            self._need(8, what)
            at = self._fill(8)
            window = self._window
            last = len(window) - 8
            # Nothing but this line runs once a string; a length beyond the window ends the loop.
            while count and at <= last:
                at += 8 + unpack(window, at)[0]
                count -= 1
            end = self._start + at
            if end > self.size:
                raise CorruptFile(
                    self.path,
                    f"a string of {what} ends at byte {end}",
                    f"the file to end there, it has {self.size} bytes",
                )
            self.at = end

    def check_count(self, count: int, least_bytes: int, what: str) -> None:
        """Refuse a count that the rest of the file cannot hold with `least_bytes` for each."""
        if count * least_bytes > self.left:
            raise CorruptFile(
                self.path,
                f"{what} claims {count} entries",
                f"at most {self.left // least_bytes} in the bytes left; it is truncated or damaged, download it again",
                self.at,
            )

    def _unpack(self, code: str, what: str) -> int | float | bool:
        width = _SIZES[code]
        self._need(width, what)
        begin = self._fill(width)
        self.at += width
        value: int | float | bool = struct.unpack_from(f"{self.order}{code}", self._window, begin)[0]
        return value

    def _need(self, count: int, what: str) -> None:
        if count > self.left:
            wish = f"{count} bytes of {what}; it is truncated, download it again"
            raise CorruptFile(self.path, f"the file ends after {self.size} bytes", wish, self.at)

    def _fill(self, count: int) -> int:
        """Make sure that `count` bytes from `at` on are in the window; where in it they begin."""
        begin = self.at - self._start
        if begin >= 0 and begin + count <= len(self._window):
            return begin
        wanted = max(count, self._ahead if self._window else min(self._ahead, FIRST_WINDOW))
        self._budget -= wanted
        if self._budget < 0:
            raise CorruptFile(self.path, f"the header takes over {READ_BUDGET >> 20} MiB", "a smaller one", self.at)
        self._window = read_at(self._file, self.at, wanted)
        self._start = self.at
        if len(self._window) < count:
            raise CorruptFile(self.path, "the file became shorter while it was read", f"{self.size} bytes", self.at)
        return 0
