"""The child's side of a conversion from before GGUF: weights are read, put into today's blocks, and written.

Run as `python -m uml.runtime.conversions.legacy_child LIBRARY JOB.json`. It is a process of its own because ggml, which
packs what nothing today has blocks for, aborts where it is not content, and because a server must not stand still
meanwhile. One line a percent on stdout.
"""

from __future__ import annotations

import ctypes as c
import json
import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from uml.engines.llamacpp.quantize_child import F32, Library, read, write
from uml.formats.legacy.blocks import narrowed, recoded, widened
from uml.formats.legacy.coding import Coding

PIECE: Final = 4 << 20
"""Bytes of the old file that are worked on at once."""


class Rows:
    """The rows of one tensor, or of a part's share of it, from old files into the new one."""

    def __init__(self, tensor: Mapping[str, Any], packer: Packer, files: Mapping[str, int], target: int) -> None:
        self._coding = Coding(*tensor["coding"])
        self._packer, self._target = packer, target
        self._sources = [(files[path], offset) for path, offset in tensor["sources"]]
        self._columns, self._at = int(tensor["columns"]), int(tensor["at"])
        self._to = int(tensor["to"])
        # Of each source, where several lie side by side in a row.
        self._share = self._coding.size(self._columns) // len(self._sources)
        self.step = max(1, PIECE // (self._share * len(self._sources)))

    def make(self, first: int, count: int) -> int:
        """So many rows from this one on; how many bytes were read. Raises ValueError, OSError."""
        size = count * self._share
        shares = [read(file, size, offset + first * self._share) for file, offset in self._sources]
        raw = shares[0] if len(shares) == 1 else _side_by_side(shares, self._share)
        new = self._packer.packed(raw, self._coding, self._to, self._columns)
        write(self._target, new, self._at + len(new) // count * first)
        return len(raw)


def _side_by_side(shares: list[bytes], width: int) -> bytes:
    return b"".join(share[at : at + width] for at in range(0, len(shares[0]), width) for share in shares)


class Packer:
    """Puts rows into today's blocks. types: what ggml is expected to say of its own."""

    def __init__(self, library: str, types: Mapping[str, tuple[str, int, int]]) -> None:
        self._path, self._types = library, {**types, str(F32): ("F32", 1, 4)}

    @cached_property
    def _library(self) -> Library:
        """Only loaded for what is packed anew."""
        return Library(self._path, self._types)

    def packed(self, raw: bytes, coding: Coding, new: int, columns: int) -> bytes:
        """Whole rows. Raises ValueError for weights that are no numbers."""
        if not coding.packed_anew:
            return recoded(raw, coding)
        # ggml still has blocks of 32 of that kind: a block of 16 is one of those with padding behind it.
        alike = {"Q4_2": 2, "Q4_3": 3}[coding.name]
        floats = self._library.packed(widened(raw, coding), alike, F32, 2 * columns)
        return self._library.packed(narrowed(floats), F32, new, columns)


def main(library: str, job_path: str) -> None:
    """Fill the weights of the file that the job names, whose head is there."""
    if sys.platform == "linux":
        c.CDLL(None).prctl(1, 9)  # killed with its parent, it would work on for nobody: PR_SET_PDEATHSIG
    job: dict[str, Any] = json.loads(Path(job_path).read_text(encoding="utf-8"))
    packer = Packer(library, job["types"])
    paths = {path for tensor in job["tensors"] for path, _ in tensor["sources"]}
    files = {path: os.open(path, os.O_RDONLY) for path in paths}
    target = os.open(job["out"], os.O_WRONLY)
    total = sum(Coding(*tensor["coding"]).size(tensor["columns"]) * tensor["rows"] for tensor in job["tensors"])
    done = said = 0
    for tensor in job["tensors"]:
        rows = Rows(tensor, packer, files, target)
        try:
            for first in range(0, tensor["rows"], rows.step):
                done += rows.make(first, min(rows.step, tensor["rows"] - first))
                if (percent := 100 * done // total) > said:
                    said = percent
                    print(f"{percent}% {tensor['name']}", flush=True)  # noqa: T201  # the parent reads it
        except ValueError as error:
            sys.exit(f"ValueError: {tensor['name']}: {error}")
        except OSError as error:
            sys.exit(f"OSError: {tensor['name']}: {error.strerror or error}")
    os.fsync(target)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
