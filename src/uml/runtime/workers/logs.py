"""What workers write: one log a model, bounded, and its end read for causes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

LIMIT_BYTES: Final = 8 << 20
"""A log that grows past this while its worker runs goes to `.1`, and starts again."""
TAIL_BYTES: Final = 1 << 16
HEAD_BYTES: Final = 1 << 20
HEADING: Final = "# "
"""How a line begins that is ours and not the engine's."""


class WorkerLog:
    """The log of one model's worker: `MODEL.log`, the one of the run before it in `MODEL.log.1`."""

    def __init__(self, folder: Path, model: str) -> None:
        self.path = folder / f"{model}.log"
        self._older = folder / f"{model}.log.1"
        self._overflowed = False

    def begin(self, heading: str) -> int:
        """Put the last log aside and open a new one under a heading; the caller closes the descriptor.

        An engine that is content may say nothing at all: the heading tells what it runs and how. Raises OSError.
        """
        if self.path.exists():
            self.path.replace(self._older)
        self._overflowed = False
        # Appending, so that the worker goes on at the start of the file after it was emptied.
        log = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.write(log, f"{HEADING}{time.strftime('%Y-%m-%d %H:%M:%S')} {heading}\n".encode())
        return log

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
        text = _end(self.path, limit_bytes)
        if not text and self._overflowed:
            text = _end(self._older, limit_bytes)
        return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(HEADING))

    def head(self, limit_bytes: int = HEAD_BYTES) -> str:
        """What this run wrote first; empty where it has been put aside since."""
        try:
            with self.path.open("rb") as file:
                return "" if self._overflowed else file.read(limit_bytes).decode("utf-8", "replace")
        except OSError:
            return ""

    def lines(self, count: int) -> str:
        """The last `count` lines, those of the run before among them where this one has not said as much."""
        if count < 1:
            return ""
        limit_bytes = max(TAIL_BYTES, count * 200)
        lines = [line for path in (self._older, self.path) for line in _end(path, limit_bytes).splitlines()]
        return "\n".join(lines[-count:])


def _end(path: Path, limit_bytes: int) -> str:
    """The end of a file, from the start of a line; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes))
            data = file.read(limit_bytes)
    except OSError:
        return ""
    if size > limit_bytes:
        data = data.partition(b"\n")[2] or data
    return data.decode("utf-8", "replace")
