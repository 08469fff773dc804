"""A folder of files that are elsewhere: each with its full size and holes for what was not read yet.

Readers open these files as any other; what they read is fetched first (`formats.reader.read_through`).
What was read stays, so that whoever simulates a load finds the header where it belongs.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, cast

from uml.core.errors import RemoteFailed, SetupError, gib
from uml.formats.bounded_json import MAX_JSON
from uml.remote.web import Broken, Part, Place, Web

FIRST_STEP: Final = 64 << 10
LAST_STEP: Final = 4 << 20
"""Bytes of one request, at first and at most: small headers take one, a long vocabulary takes few."""
MAX_FILE: Final = 8 << 40
"""Bytes; the largest model in one file has a thousandth of it."""
_TRIES: Final = 3


class Source:
    """One file elsewhere and its copy here. `stored`: ranges that are in the copy, sorted and apart."""

    def __init__(self, path: Path, place: Place, web: Web, size: int | None = None) -> None:
        self.path = path
        self.place = place
        self.stored: list[tuple[int, int]] = []
        self.size = size
        self.weights_at: int | None = None
        """Where weights begin, if that is known: no header is read beyond it, and nothing fetched."""
        self._web = web
        self._step = FIRST_STEP
        self._reached = -1
        self._spent = 0
        self._lock = threading.Lock()
        self._whole: _Whole | None = None
        self._kept = ExitStack()
        if size is not None:
            self._make(size)

    def start(self) -> None:
        """Fetch the beginning, and with it the size; of safetensors the header. Raises RemoteFailed."""
        self.ensure(0, 1)
        if self.weights_at is not None and self.weights_at <= MAX_JSON:
            self.ensure(0, self.weights_at)

    def ensure(self, begin: int, count: int) -> None:
        """Make sure that these bytes are in the copy, as far as the file has them. Raises RemoteFailed."""
        broken = 0
        with self._lock:
            while hole := self._hole(begin, begin + count):
                try:
                    self._fetch(*hole)
                except Broken:
                    # What came before the break is kept.
                    self._kept.close()
                    self._whole = None
                    broken += 1
                    if broken == _TRIES:
                        raise

    def complete(self) -> None:
        """Fill the holes before the last byte that was read: what a reader stepped over. Raises RemoteFailed."""
        if self.stored:
            self.ensure(0, self.stored[-1][1])

    def put(self, at: int, data: bytes) -> None:
        """Take over bytes that are known to be there, without asking for them."""
        with self._lock:
            self._store(at, data)

    def close(self) -> None:
        """End what is under way."""
        self._kept.close()

    @property
    def _end(self) -> int:
        size = MAX_FILE if self.size is None else self.size
        return size if self.weights_at is None else min(size, self.weights_at)

    def _hole(self, begin: int, end: int) -> tuple[int, int] | None:
        """The first range to fetch so that these bytes are there; grown to a step where it is shorter."""
        for low, high in self.stored:
            if low <= begin < high:
                begin = high
        if begin >= min(end, self._end):
            return None
        next_stored = min((low for low, _ in self.stored if low > begin), default=self._end)
        # Who reads on gets more at once; who jumps is about to read little.
        self._step = min(self._step * 4, LAST_STEP) if begin == self._reached else FIRST_STEP
        return begin, min(max(end, begin + self._step), next_stored, self._end)

    def _fetch(self, begin: int, end: int) -> None:
        """One range, or less where the server gives less. Raises RemoteFailed; Broken where nothing came."""
        if self._spent + end - begin > self._web.limits.file_bytes:
            raise self._too_much()
        if self._whole:
            self._read_on(self._whole, end)
            return
        self._reached = end
        with ExitStack() as answer:
            part = answer.enter_context(self._web.part(self.place, begin, end - begin))
            self._told(part.total)
            if part.ranged:
                self._take(part, begin, min(end, self._end))
                return
            # Left open: the next piece is read on from here.
            self._kept = answer.pop_all()
            self._whole = _Whole(part.chunks)
        self._read_on(self._whole, min(end, self._end))

    def _take(self, part: Part, begin: int, end: int) -> None:
        """Store a range as it comes."""
        at = begin
        for chunk in part.chunks:
            self._spent += len(chunk)
            if len(chunk) > end - at:
                raise RemoteFailed(self.place.shown, "the server sends more than it was asked for")
            self._store(at, chunk)
            at += len(chunk)
        if at == begin:
            raise Broken(self.place.shown, "the server sends nothing of what was asked for")

    def _read_on(self, whole: _Whole, end: int) -> None:
        """Of a server without ranges: read on from where it stands, and keep what fits."""
        while whole.at < end:
            chunk = next(whole.chunks, b"")
            if not chunk:
                raise Broken(self.place.shown, "the answer is shorter than it should be")
            self._spent += len(chunk)
            if self._spent > self._web.limits.file_bytes:
                raise self._too_much(" of a server that gives no ranges")
            self._store(whole.at, chunk[: max(0, self._end - whole.at)])
            whole.at += len(chunk)

    def _told(self, total: int | None) -> None:
        """The size as the answer has it; the first one makes the copy. Raises RemoteFailed where they differ."""
        if self.size is None:
            if total is None:
                raise RemoteFailed(self.place.shown, "the server does not say how long the file is")
            self._make(total)
        elif total is not None and total != self.size:
            raise RemoteFailed(
                self.place.shown, f"it has {total} bytes now, and {self.size} before: it changes, or one is a lie"
            )

    def _make(self, size: int) -> None:
        if size > MAX_FILE:
            raise RemoteFailed(self.place.shown, f"it claims {size} bytes; no model has more than {MAX_FILE}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("xb") as file:
                file.truncate(size)
        except OSError as error:
            raise SetupError(
                f"a file of {gib(size)}, nearly all of it a hole, cannot be made in {self.path.parent} "
                f"({error.strerror}); set TMPDIR to a folder on another file system"
            ) from error
        self.size = size

    def _store(self, at: int, data: bytes) -> None:
        if not data:
            return
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(data)
        self.stored = _merged([*self.stored, (at, at + len(data))])
        if self.weights_at is None and self.path.suffix == ".safetensors" and self.stored[0] >= (0, 8):
            # u64 length, header, weights: the readers' windows need not reach into the weights.
            with self.path.open("rb") as file:
                self.weights_at = 8 + int.from_bytes(file.read(8), "little")

    def _too_much(self, why: str = "") -> RemoteFailed:
        limit = gib(self._web.limits.file_bytes)
        return RemoteFailed(self.place.shown, f"its header does not end within {limit}{why}")


class _Whole:
    """An answer that holds all of a file, and how far it was read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.at = 0


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


class Mirror:
    """The folder. Paths are below `root`; every file is fetched from its own place as it is read."""

    def __init__(self, root: Path, web: Web) -> None:
        self.root = Path(os.path.realpath(root))
        self.web = web
        self.sources: dict[Path, Source] = {}

    def add(self, path: str, place: Place, size: int | None = None) -> Source:
        """A file below the root; without a size, it is there as soon as its beginning is. Raises RemoteFailed."""
        where = self.root / path
        source = Source(where, place, self.web, size)
        self.sources[where] = source
        return source

    def through(self, path: Path, file: BinaryIO) -> BinaryIO:
        """What a file is read through: for `formats.reader.read_through`."""
        source = self.sources.get(path)
        return cast("BinaryIO", _Fetching(file, source)) if source else file

    def close(self) -> None:
        """End what is under way."""
        for source in self.sources.values():
            source.close()

    def shown(self) -> Iterator[tuple[str, str]]:
        """Paths here with what they stand for, longest first."""
        found = sorted(self.sources.items(), key=lambda item: -len(str(item[0])))
        return ((str(path), source.place.shown) for path, source in found)


class _Fetching(io.RawIOBase):
    """An open copy; what is read of it is fetched first."""

    def __init__(self, file: BinaryIO, source: Source) -> None:
        super().__init__()
        self._file = file
        self._source = source

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is: the copy has its full length before anything of it is there."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of every file; nothing is fetched for it."""
        return self._file.seek(offset, whence)

    def readinto(self, into: object) -> int:
        """Bytes from here on, fetched where they are not there yet. Raises what `Source.ensure` does."""
        room = memoryview(into)  # type: ignore[arg-type]  # a buffer, which 3.11 has no name for
        self._source.ensure(self._file.tell(), len(room))
        data = self._file.read(len(room))
        room[: len(data)] = data
        return len(data)
