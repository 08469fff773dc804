"""Whether a worker that serves hangs: looks at it are taken in, and a reason comes out, or none.

A worker works while bytes of an answer, processor time, memory, reading or its log grow, and while any of its threads
could run or waits for a disk: a slow prompt does all of that, and a busy machine or a slow disk does not look like a
hang. It owes work while an answer is awaited that nobody holds up on our side.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from uml.runtime.workers.family import family
from uml.runtime.workers.progress import Meter, Sample, look

Condition = Literal["stopped", "able", "waiting"]

HANG_S: Final = 30.0
GPU_FACTOR: Final = 4.0
"""A thread that waits for a GPU sleeps, and one step of a large prompt takes long: the process shows nothing of it."""
DOUBT_S: Final = 2.0
"""A worker that has shown nothing for so long, with work to do, is asked whether it answers."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds until a worker is given up.

    stopped: by a signal, with work to do. deaf: it does nothing, with work to do, and does not answer its health
    check. quiet: it answers that, and does nothing for the work it has. idle: it has no work, and does not answer.
    """

    stopped_s: float
    deaf_s: float
    quiet_s: float
    idle_s: float

    @classmethod
    def of(cls, hang_s: float, *, gpu: bool, hurry: bool = False) -> Patience:
        """What fits the setting and the work. hurry: somebody waits for the worker to go once it is done."""
        slow = GPU_FACTOR if gpu else 1.0
        if hurry:
            most = HURRIED
            stopped_s, deaf_s = min(most.stopped_s, hang_s / 3), min(most.deaf_s, hang_s / 3) * slow
            return cls(stopped_s, deaf_s, min(most.quiet_s, hang_s) * slow, min(most.idle_s, hang_s))
        return cls(min(5.0, hang_s / 3), hang_s / 3 * slow, hang_s * slow, hang_s)


HURRIED: Final = Patience(stopped_s=1.0, deaf_s=2.0, quiet_s=4.0, idle_s=3.0)
"""The most while somebody waits for the worker to go."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look. owed: answers that are awaited. heard: changes when bytes of one come. answers: to its health check,
    None where it was not asked."""

    now: float
    owed: int
    heard: int
    log_bytes: int
    sample: Sample | None
    condition: Condition
    answers: bool | None = None


class Watch:
    """What the looks at one worker come to. Times are of any one clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._meter = Meter(0, now)
        self._last = Look(now, 0, 0, 0, None, "waiting")
        self._heard_at = now
        self._owes_since: float | None = None
        self._stopped_since: float | None = None
        self._answered_at = now
        self._deaf = False

    def doubts(self, now: float) -> bool:
        """Whether it should be asked for its health: it has work, and shows no sign of it."""
        return self._last.owed > 0 and self._quiet_s(now) > DOUBT_S

    @property
    def deaf(self) -> bool:
        """Whether it left its last health check without an answer."""
        return self._deaf

    def take(self, seen: Look) -> None:
        """Take a look in."""
        last, self._last = self._last, seen
        if seen.sample is not None:
            self._meter.take(seen.sample, seen.log_bytes, seen.now)
        # Once is chance, such as our own question being answered: twice it wants to run and is not let.
        starved = seen.condition == last.condition == "able"
        if seen.heard != last.heard or starved:
            self._heard_at = seen.now
        if not seen.owed:
            self._owes_since = None
        elif self._owes_since is None:
            self._owes_since = seen.now
        if seen.condition != "stopped":
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = seen.now
        if seen.answers is not None:
            self._deaf = not seen.answers
            self._answered_at = self._answered_at if self._deaf else seen.now

    def hang(self, patience: Patience, now: float) -> str | None:
        """Why it is to be given up, as the end of a sentence about it; None while it is not."""
        quiet_s, owed = self._quiet_s(now), self._last.owed
        stopped_s = now - self._stopped_since if self._stopped_since is not None else 0.0
        work = f"{owed} request{'s' if owed > 1 else ''} to answer"
        if owed and stopped_s >= patience.stopped_s:
            return f"a signal had stopped it for {stopped_s:.0f} s, with {work}"
        if owed and self._deaf and quiet_s >= patience.deaf_s:
            return f"it had neither answered nor worked for {quiet_s:.0f} s, with {work}"
        if owed and quiet_s >= patience.quiet_s:
            return f"it had done nothing for {quiet_s:.0f} s, with {work}"
        unanswered_s = min(quiet_s, now - self._answered_at)
        if not owed and self._deaf and unanswered_s >= patience.idle_s:
            return f"it had neither answered nor worked for {unanswered_s:.0f} s"
        return None

    def _quiet_s(self, now: float) -> float:
        """Seconds without a sign of work; since it was given work, where it had none."""
        return min(self._meter.quiet_s(now), now - self._heard_at, now - (self._owes_since or 0.0))


def condition(pid: int) -> Condition:
    """What the threads of a process are at: all stopped, one at least able to run or waiting for a disk, or asleep."""
    states = set[bytes]()
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError, IndexError):
            states.add(path.read_bytes().rpartition(b")")[2].split()[0])
    if states & {b"R", b"D"}:
        return "able"
    return "stopped" if states and states <= {b"T", b"t"} else "waiting"


def observe(pid: int, owed: int, heard: int, log_bytes: int, answers: bool | None = None) -> Look:
    """Look at a worker and its children now."""
    members = family(pid)
    samples = [sample for member in members if (sample := look(member))]
    conditions = {condition(member) for member in members}
    together = Sample(
        cpu_s=sum(sample.cpu_s for sample in samples),
        resident_bytes=sum(sample.resident_bytes for sample in samples),
        read_bytes=sum(sample.read_bytes for sample in samples),
    )
    summed: Condition = "able" if "able" in conditions else "stopped" if conditions == {"stopped"} else "waiting"
    return Look(time.monotonic(), owed, heard, log_bytes, together if samples else None, summed, answers)
