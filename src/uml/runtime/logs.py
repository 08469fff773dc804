"""What workers write: one log a model, bounded, and its end read for causes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

LIMIT_BYTES: Final = 8 << 20
"""A log that grows past this while its worker runs goes to `.1`, and starts again."""
TAIL_BYTES: Final = 1 << 16


class WorkerLog:
    """The log of one model's worker: `MODEL.log`, the one of the run before it in `MODEL.log.1`."""

    def __init__(self, folder: Path, model: str) -> None:
        self.path = folder / f"{model}.log"
        self._older = folder / f"{model}.log.1"
        self._overflowed = False

    def begin(self) -> int:
        """Put the last log aside and open a new one; the caller closes the descriptor. Raises OSError."""
        if self.path.exists():
            self.path.replace(self._older)
        self._overflowed = False
        # Appending, so that the worker goes on at the start of the file after it was emptied.
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)

    def size(self) -> int:
        """Bytes so far; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def bound(self) -> None:
        """Keep a worker that talks too much from filling the disk. Raises OSError."""
        if self.size() > LIMIT_BYTES:
            shutil.copyfile(self.path, self._older)
            os.truncate(self.path, 0)
            self._overflowed = True

    def tail(self, limit_bytes: int = TAIL_BYTES) -> str:
        """The end of what this run wrote, from the start of a line.

        Never what the run before it wrote: a cause of death would be found there that was another's.
        """
        return self._end((self.path, self._older) if self._overflowed else (self.path,), limit_bytes)

    def lines(self, count: int) -> str:
        """The last `count` lines; of the run before where this one has not said a word."""
        if count < 1:
            return ""
        text = self._end((self.path, self._older), max(TAIL_BYTES, count * 200))
        return "\n".join(text.splitlines()[-count:])

    @staticmethod
    def _end(paths: Iterable[Path], limit_bytes: int) -> str:
        """The end of the first of these files that has something in it."""
        for path in paths:
            try:
                with path.open("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - limit_bytes))
                    data = file.read(limit_bytes)
            except OSError:
                continue
            if size > limit_bytes:
                data = data.partition(b"\n")[2] or data
            if data:
                return data.decode("utf-8", "replace")
        return ""
