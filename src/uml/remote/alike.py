"""What quantizations of one model have in common is fetched once: their vocabulary, most of a GGUF header.

The second file is walked through with small reads. Where it has an array of the same key, type and length as the
first file, and what follows stands exactly where it would if the arrays were the same, the first one's is taken.
The tensor table is never taken over: it is what quantizations differ in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from uml.core.errors import BadFile, CorruptFile
from uml.formats.gguf.header import MAGIC, MAX_NAME, VERSIONS
from uml.formats.reader import Cursor, opened, read_at
from uml.remote.mirror import Source

LEAST_BYTES: Final = 16 << 10
"""Shorter arrays are read: asking once more costs as much."""
SEEN_AFTER: Final = 24
"""Bytes after an array that must agree: the length of the next key, and its first letters."""
WINDOW: Final = 8 << 10
"""Bytes read at once of the second file: a larger window would fetch what is about to be taken over."""
_STRING, _ARRAY = 8, 9
_WIDTHS: Final[Mapping[int, int]] = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MAX_ENTRIES: Final = 65_536


class Array(NamedTuple):
    """An array of a header: type and number of its entries, and where they lie in the file."""

    kind: int
    entries: int
    begin: int
    end: int


Passed = Callable[[str, int, int, Cursor], bool]
"""Key, type and length of an array at whose entries a cursor stands; whether it was stepped over."""


def take_over(first: Path, second: Path, source: Source) -> None:
    """Fill the copy of the second file from that of the first, as far as they are alike.

    Afterwards the copy knows where its header ends, if it could be walked through at all.
    """
    try:
        known = _arrays(first)
        with opened(first) as (theirs, _), opened(second) as (mine, size):

            def passed(key: str, kind: int, count: int, cursor: Cursor) -> bool:
                found = known.get(key)
                if found is None or (found.kind, found.entries) != (kind, count):
                    return False
                length = found.end - found.begin
                after = read_at(theirs, found.end, SEEN_AFTER)
                if length < LEAST_BYTES or read_at(mine, cursor.at + length, SEEN_AFTER) != after:
                    return False
                source.put(cursor.at, read_at(theirs, found.begin, length))
                cursor.skip(length, key)
                return True

            cursor = Cursor(second, mine, size, window=WINDOW)
            if tensors := _metadata(cursor, passed):
                _tensors(cursor, tensors)
                source.weights_at = cursor.at
    except BadFile:
        # Whatever is wrong with either, their reader finds it too, and says so.
        return


def _arrays(path: Path) -> dict[str, Array]:
    """The arrays of a header by key. Raises BadFile."""
    found: dict[str, Array] = {}

    def passed(key: str, kind: int, count: int, cursor: Cursor) -> bool:
        begin = cursor.at
        _step_over(cursor, kind, count, key)
        found[key] = Array(kind, count, begin, cursor.at)
        return True

    with opened(path) as (file, size):
        _metadata(Cursor(path, file, size), passed)
    return found


def _metadata(cursor: Cursor, passed: Passed) -> int:
    """Step over the key-value pairs; the number of tensors that follow, 0 where this is no header of our time."""
    if cursor.raw(4, "the magic") != MAGIC or cursor.number("I", "the version") not in VERSIONS:
        return 0
    tensors, keys = cursor.number("Q", "the tensor count"), cursor.number("Q", "the metadata count")
    if tensors > _MAX_ENTRIES or keys > _MAX_ENTRIES:
        return 0
    for _ in range(keys):
        key = cursor.string("a metadata key", MAX_NAME)
        if key is None:
            return 0
        kind = cursor.number("I", key)
        if kind == _ARRAY:
            inner, count = cursor.number("I", key), cursor.number("Q", key)
            if not passed(key, inner, count, cursor):
                _step_over(cursor, inner, count, key)
        else:
            _step_over(cursor, kind, 1, key)
    return tensors


def _step_over(cursor: Cursor, kind: int, count: int, key: str) -> None:
    if kind == _STRING:
        cursor.skip_strings(count, key)
    elif width := _WIDTHS.get(kind):
        cursor.skip(width * count, key)
    else:
        raise CorruptFile(cursor.path, f"the key {key!r} has value type {kind}", "0 to 12", cursor.at)


def _tensors(cursor: Cursor, count: int) -> None:
    """Step over the tensor table: name, rank, sizes, type, offset."""
    for _ in range(count):
        cursor.skip(cursor.number("Q", "a tensor name"), "a tensor name")
        cursor.skip(8 * cursor.number("I", "a rank"), "a shape")
        cursor.skip(12, "a type and an offset")
