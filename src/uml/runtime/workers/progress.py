"""How far a load is, seen from outside: what a process has read, holds, and burns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BUSY_SHARE: Final = 0.1
"""Share of one core over which a loading process counts as working; below, it only answers our questions."""
WINDOW_S: Final = 0.25
"""Time over which that share is taken: the kernel counts in steps of 10 ms."""
GROWTH_BYTES: Final = 1 << 18
"""Memory or reading that counts as work."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process. Totals since its start, except `resident_bytes`, which is now."""

    cpu_s: float
    resident_bytes: int
    read_bytes: int


def look(pid: int) -> Sample | None:
    """A sample of a process; None when it is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        # proc_pid_stat(5): 14 utime, 15 stime, 16 and 17 those of its reaped children, 24 resident pages.
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return _look_elsewhere(pid)
    ticks = sum(int(field) for field in fields[11:15])
    return Sample(
        cpu_s=ticks / os.sysconf("SC_CLK_TCK"),
        resident_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        read_bytes=_read_bytes(folder / "io"),
    )


def _read_bytes(path: Path) -> int:
    try:
        for line in path.read_bytes().splitlines():
            if line.startswith(b"read_bytes:"):
                return int(line[11:])
    except OSError:
        pass  # not ours to read: the resident pages tell nearly as much
    return 0


def _look_elsewhere(pid: int) -> Sample | None:
    import psutil

    try:
        process = psutil.Process(pid)
        times, memory = process.cpu_times(), process.memory_info()
    except psutil.Error:
        return None
    return Sample(times.user + times.system, memory.rss, 0)


class Meter:
    """The course of one load.

    bytes: of `total_bytes`, 0 where that is not known. percent: below 100 until the worker serves.
    Neither falls. prelude_bytes: of them, what is worked through before the worker starts.
    """

    def __init__(self, total_bytes: int, now: float, prelude_bytes: int = 0) -> None:
        self.total_bytes = total_bytes + prelude_bytes
        self.bytes = 0
        self._prelude = prelude_bytes
        self._moved = now
        self._cpu_at = now
        self._cpu_s = 0.0
        self._resident = 0
        self._read = 0
        self._log = 0

    @property
    def percent(self) -> float:
        """0 to 99."""
        return min(99.0, 100.0 * self.bytes / self.total_bytes) if self.total_bytes else 0.0

    def quiet_s(self, now: float) -> float:
        """Seconds without any sign of work."""
        return now - self._moved

    def prepared(self, percent: float, now: float) -> None:
        """So much of what comes before the worker is done; a sign of work."""
        self.bytes = max(self.bytes, int(self._prelude * percent / 100))
        self._moved = now

    def begin_after(self, done_bytes: int) -> None:
        """Another worker has worked through so much of the load before this one."""
        self.total_bytes += done_bytes
        self._prelude = self.bytes = done_bytes

    def told(self, share: float) -> None:
        """The worker itself says that it has done this share of its load."""
        self.bytes = max(self.bytes, self._prelude + int(share * (self.total_bytes - self._prelude)))

    def take(self, sample: Sample, log_bytes: int, now: float) -> None:
        """Take in a look at the process and the size of its log."""
        busy = False
        if (elapsed := now - self._cpu_at) >= WINDOW_S:
            busy = sample.cpu_s - self._cpu_s > BUSY_SHARE * elapsed
            self._cpu_s, self._cpu_at = sample.cpu_s, now
        grown = sample.resident_bytes > self._resident + GROWTH_BYTES or sample.read_bytes > self._read + GROWTH_BYTES
        if grown:
            self._resident = max(self._resident, sample.resident_bytes)
            self._read = max(self._read, sample.read_bytes)
        if busy or grown or log_bytes != self._log:
            self._moved = now
        self._log = log_bytes
        loaded = self._prelude + max(sample.resident_bytes, sample.read_bytes)
        self.bytes = max(self.bytes, min(self.total_bytes, loaded))
