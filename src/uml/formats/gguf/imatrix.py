"""read_matrix(path) -> ImportanceMatrix: which columns of a model's matrices matter most, as llama.cpp told of it.

Two formats: GGUF with sums of squares and counts (`general.type` is `imatrix`), and the older one without a header.
Source: llama.cpp's common/imatrix-loader.cpp and tools/quantize/quantize.cpp of b11549.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.errors import BadFile, CorruptFile
from uml.formats.gguf.header import MAGIC, MAX_NAME, read_header
from uml.formats.gguf.tables import TENSOR_TYPE_IDS
from uml.formats.reader import Cursor, opened, read_at, read_start

MAX_ENTRIES: Final = 65_536
MAX_VALUES: Final = 1 << 28
"""Of one matrix: 256 experts of 7,168 columns are two million."""
_SUMS, _COUNTS = ".in_sum2", ".counts"
_MAKES: Final = "llama.cpp's llama-imatrix makes one"
_F32: Final = TENSOR_TYPE_IDS["F32"]


@dataclass(frozen=True, slots=True)
class Importance:
    """Where the figures of one matrix are: `columns` of each of its experts, one behind the other.

    counts: by what the sums of each expert are divided. default: what stands for an expert that was never used; None:
    its sums as they are.
    """

    offset: int
    columns: int
    counts: tuple[float, ...]
    default: float | None

    @property
    def size(self) -> int:
        """How many figures these are."""
        return self.columns * len(self.counts)


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """By names of tensors. chunks: of the text that it was made with; 0 where the file does not tell."""

    path: Path
    entries: Mapping[str, Importance]
    chunks: int

    def values(self, name: str) -> array[float]:
        """The figures of one matrix, in float32. Raises BadFile, CorruptFile."""
        about, found = self.entries[name], array("f")
        with opened(self.path) as (file, _):
            found.frombytes(read_at(file, about.offset, 4 * about.size))
        if sys.byteorder == "big":
            found.byteswap()
        if len(found) != about.size:
            raise CorruptFile(self.path, f"the figures of {name} end too soon", f"{about.size} of them")
        made = array("f")
        for expert, count in enumerate(about.counts):
            part = found[expert * about.columns : (expert + 1) * about.columns]
            if count > 0:
                made.extend(array("f", [value / count for value in part]))
            else:
                made.extend(part if about.default is None else array("f", [about.default]) * about.columns)
        if not all(map(math.isfinite, made)):
            raise CorruptFile(self.path, f"figures of {name} are no numbers", "finite ones")
        return made


def read_matrix(path: Path) -> ImportanceMatrix:
    """Read what there is; the figures stay on disk. Raises BadFile, CorruptFile."""
    found = _gguf(path) if read_start(path, 4) == MAGIC else _legacy(path)
    if not found.entries:
        raise BadFile(path, f"is no importance matrix: it has no figures of any tensor; {_MAKES}")
    return found


def _gguf(path: Path) -> ImportanceMatrix:
    header = read_header(path)
    kind = header.text("general.type")
    if kind not in ("imatrix", "") or header.big_endian:
        what = "big endian" if header.big_endian else f"GGUF with the type {kind}"
        raise BadFile(path, f"is no importance matrix: it is {what}; {_MAKES}")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    entries = {}
    for name, sums in tensors.items():
        if not name.endswith(_SUMS):
            continue
        of = name.removesuffix(_SUMS)
        counts = tensors.get(of + _COUNTS)
        if counts is None or not counts.elements or sums.elements % counts.elements:
            raise CorruptFile(path, f"the counts of {of} do not fit its sums", "one for each expert")
        if sums.type != _F32 or counts.type != _F32 or sums.elements > MAX_VALUES:
            raise CorruptFile(path, f"the figures of {of} are of another type, or too many", "F32")
        with opened(path) as (file, _):
            numbers = array("f", read_at(file, header.data_start + counts.offset, 4 * counts.elements))
        columns = sums.elements // counts.elements
        entries[of] = Importance(header.data_start + sums.offset, columns, tuple(numbers), 1.0)
    return ImportanceMatrix(path, entries, header.integer("imatrix.chunk_count"))


def _legacy(path: Path) -> ImportanceMatrix:
    entries, chunks = {}, 0
    with opened(path) as (file, size):
        # Figures are stepped over, and every step reads a window anew.
        cursor = Cursor(path, file, size, window=4096)
        count = cursor.number("i", "number of entries")
        if not 0 < count <= MAX_ENTRIES:
            raise BadFile(path, f"is neither GGUF nor an importance matrix; {_MAKES}")
        for _ in range(count):
            length = cursor.number("i", "length of a name")
            if not 0 < length <= MAX_NAME:
                raise BadFile(path, f"is neither GGUF nor an importance matrix; {_MAKES}")
            name = cursor.raw(length, "name of a tensor").decode("utf-8", "replace")
            calls, values = cursor.number("i", "number of calls"), cursor.number("i", "number of figures")
            if not 0 < values <= MAX_VALUES:
                raise CorruptFile(path, f"{name} has {values} figures", f"1 to {MAX_VALUES}")
            entries[name] = Importance(cursor.at, values, (float(calls),), None)
            cursor.skip(4 * values, f"figures of {name}")
        if size - cursor.at >= 4:
            chunks = cursor.number("i", "number of chunks")
    return ImportanceMatrix(path, entries, max(0, chunks))
