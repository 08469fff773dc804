"""What a worker really took: looked at from outside when it is ready and after requests, and what follows for plans.

The kernel's counters take microseconds to read, so that a worker is looked at between its last word of the load
and its first request. Which of its pages are the model's file takes a walk through all of them, and a GPU's
driver takes as long as it likes: both come after, in a thread.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from uml.core.engine import Engine, TellsBuffers
from uml.core.errors import UmlError
from uml.core.plan import Buffer, Footprint, LoadPlan, Taken
from uml.planning.refine import Figures
from uml.runtime.scheduling.events import Weighed
from uml.runtime.workers.family import family
from uml.runtime.workers.logs import WorkerLog

GROWTH_SHARE: Final = 0.002
"""Growth after a request that is worth writing down again."""
FIRST_LOOKS: Final = 16
"""Requests after each of which a worker is looked at; after later ones once in `LOOK_EVERY_S` at most."""
LOOK_EVERY_S: Final = 1.0

_MIB: Final = 1 << 20
_SLACK_BYTES: Final = 2 * _MIB
"""What a second load of the same may differ by: pages of libraries, stacks of threads. Measured: 0.8 MiB of 63."""
_ROW: Final = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ +(/.*)$")


class Records(Protocol):
    """Where weighed workers are written down. All methods are called in a thread."""

    def gpu_use(self, pid: int) -> Mapping[str, int]:
        """Bytes that a process holds on each GPU, by device id; empty where no driver tells."""
        ...

    def grown(self, plan: LoadPlan) -> int:
        """Bytes that use has added to earlier loads of the same. Raises UmlError where that cannot be read."""
        ...

    def keep(self, plan: LoadPlan, taken: Taken, figures: Figures) -> None:
        """Remember what a load took; again when it has grown. Raises UmlError where that cannot be written."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """The counters of a process, or of several together.

    What is swapped out counts as resident, for it was needed and will be again.
    """

    resident_bytes: int
    peak_bytes: int


def look(pid: int) -> Look | None:
    """The counters as they are now; None when the process is gone. Takes 30 microseconds on Linux."""
    try:
        # proc_pid_status(5), in kB.
        rows = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    except OSError:
        return _look_elsewhere(pid)
    pairs = (row.partition(b":") for row in rows if row.startswith(b"Vm"))
    sizes = {name: int(value.split()[0]) << 10 for name, _, value in pairs}
    if b"VmRSS" not in sizes:
        return None  # a process that has ended and was not fetched yet
    return Look(sizes[b"VmRSS"] + sizes.get(b"VmSwap", 0), sizes.get(b"VmHWM", 0))


def look_at_all(pid: int) -> Look | None:
    """The same of a process and those below it; None when it is gone. Pages that they share count for each of them."""
    found = [one for member in family(pid) if (one := look(member))]
    if not found:
        return None
    return Look(sum(one.resident_bytes for one in found), sum(one.peak_bytes for one in found))


def _look_elsewhere(pid: int) -> Look | None:
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return None
    return Look(memory.rss, getattr(memory, "peak_wset", 0))


def file_bytes(pid: int, files: tuple[Path, ...]) -> int:
    """Resident pages of these files that a process has mapped; 0 where the system does not tell.

    The walk takes about 10 ms for each resident GiB.
    """
    wanted = {str(path.resolve()).encode() for path in files}
    count, mine = 0, False
    try:
        with Path(f"/proc/{pid}/smaps").open("rb") as rows:
            for row in rows:
                if row.startswith(b"Rss:"):
                    count += int(row.split()[1]) << 10 if mine else 0
                elif found := _ROW.match(row.rstrip(b"\n")):
                    mine = found[1] in wanted
                elif not row[:1].isupper():
                    mine = False
    except OSError:
        return 0
    return count


class Weighing:
    """One worker on the scales, from ready to its end.

    taken, figures: what it took and what that means for plans; None until `settle` was done.
    """

    def __init__(self, plan: LoadPlan, engine: Engine, pid: int, records: Records) -> None:
        self.plan = plan
        self.taken: Taken | None = None
        self.figures: Figures | None = None
        self._engine = engine
        self._pid = pid
        self._records = records
        self._ready: Look | None = None
        self._uses = 0
        self._used_bytes = 0
        self._looked_at = 0.0

    def ready(self) -> None:
        """Look, before anybody asks it anything."""
        self._ready = look_at_all(self._pid)

    def settle(self, log: WorkerLog) -> bool:
        """The rest of what there is to see, by the log of its load too; for a thread. False where nothing could be."""
        if self._ready is None:
            return False
        on_gpus = any(device != "cpu" for device in self.plan.placement.device_bytes)
        info, engine, members = self.plan.model.info, self._engine, family(self._pid)
        files = info.files or (info.path,)
        taken = Taken(
            resident_bytes=self._ready.resident_bytes,
            file_bytes=sum(file_bytes(member, files) for member in members),
            peak_bytes=self._ready.peak_bytes,
            gpu_bytes=_sums(self._records.gpu_use(member) for member in members) if on_gpus else {},
            buffers=engine.buffers(self.plan, log.head()) if isinstance(engine, TellsBuffers) else (),
        )
        if look(self._pid) is None:
            return False  # it has ended meanwhile, and its pages could not be told
        # Conversations that were read back keep this worker from growing as an earlier one did; others will not.
        self._put(_with_growth(taken, self._used_bytes, self._grown()))
        return True

    def used(self) -> bool:
        """A request is over: look whether it has grown. True where it has.

        Memory grows with use: the first long prompt fills compute buffers, the first of each slot its copies.
        """
        self._uses += 1
        if self._uses > FIRST_LOOKS and time.monotonic() < self._looked_at + LOOK_EVERY_S:
            return False
        return self.grown()

    def grown(self) -> bool:
        """Look once more, as before its end: who is asked no more has shown all that it takes. True as of `used`."""
        if self._ready is None:
            return False
        self._looked_at = time.monotonic()
        now = look_at_all(self._pid)
        if now is None or now.resident_bytes <= self._used_bytes * (1 + GROWTH_SHARE):
            return False
        self._used_bytes = now.resident_bytes
        if self.taken is None:
            return False  # `settle` takes it along
        before = self.figures
        self._put(_with_growth(self.taken, now.resident_bytes, self.taken.grown_bytes))
        return self.figures != before

    def keep(self) -> None:
        """Write it down; for a thread. Raises UmlError."""
        if self.taken and self.figures:
            self._records.keep(self.plan, self.taken, self.figures)

    def weighed(self) -> Weighed | None:
        """What the scheduler is to go by from now on; None until `settle` was done."""
        if self.taken is None or self.figures is None:
            return None
        on_gpus = _on_gpus(self.taken)
        needed = total_bytes(self.figures) - sum(on_gpus.values()) + growth_to_come(self.taken, self.plan)
        mapped = self.figures.mapped_bytes or 0
        touched = max(self.taken.resident_bytes, self._used_bytes) - self.taken.file_bytes
        return Weighed(self.plan.model.id, {**on_gpus, "cpu": needed}, mapped + max(0, needed - mapped - touched))

    def _grown(self) -> int:
        try:
            return self._records.grown(self.plan)
        except UmlError:
            return 0  # it cannot be written down either, which is told

    def _put(self, taken: Taken) -> None:
        self.taken = taken
        self.figures = figures(taken, self.plan)


def figures(taken: Taken, plan: LoadPlan) -> Figures:
    """What a load took, in the parts of a footprint: what the same load will need the next time, in use.

    Of the model's mapped pages those count that are read again: not the originals of re-ordered copies,
    unless they are locked. Where the engine told its buffers, their size is that of the parts, and the compute
    buffers count whole: they are resident only once a prompt has filled them (measured: 0.02 of them after the
    load, 0.82 to 1.07 after a prompt longer than a batch). What was resident beside is `other`: the process, its
    vocabulary, what has grown with use; what the header says may still grow widens the range. Where it told none,
    the sum is measured and its parts are the plan's.
    """
    predicted, buffers = plan.footprint, taken.buffers
    mapped = _needed_pages(taken, plan)
    spare = taken.file_bytes - mapped
    in_memory = _reckoned_on(taken) + taken.grown_bytes - spare
    total = in_memory + sum(_on_gpus(taken).values())
    slack = max(_SLACK_BYTES, total // 100)
    above = slack + _more_growth(taken, predicted)
    if not buffers:
        return replace(_shared_out(total, predicted), mapped_bytes=mapped, below_bytes=slack, above_bytes=above)
    weights = _sum(buffers, part="weights") - _sum(buffers, part="weights", kind="mapped") + mapped
    cached, compute = _sum(buffers, part="kv_cache"), _sum(buffers, part="compute")
    return Figures(
        method="measured",
        weight_bytes=weights,
        kv_bytes=cached,
        compute_bytes=compute,
        other_bytes=max(0, total - weights - cached - compute),
        mapped_bytes=mapped,
        below_bytes=slack,
        above_bytes=above,
    )


def growth_to_come(taken: Taken, plan: LoadPlan) -> int:
    """What the plan says that use will add, as far as it has not yet.

    A plan by a measured load says what that one showed, and no more.
    """
    return 0 if plan.footprint.method in ("measured", "corrected") else _more_growth(taken, plan.footprint)


def total_bytes(figures: Figures) -> int:
    """The sum of measured parts."""
    parts = (figures.weight_bytes, figures.kv_bytes, figures.compute_bytes, figures.other_bytes)
    return sum(part or 0 for part in parts)


def _with_growth(taken: Taken, used_bytes: int, before: int) -> Taken:
    return replace(taken, grown_bytes=max(before, used_bytes - _reckoned_on(taken)))


def _more_growth(taken: Taken, said: Footprint) -> int:
    return max(0, said.used_bytes - said.loaded_bytes - said.compute_bytes - taken.grown_bytes)


def _reckoned_on(taken: Taken) -> int:
    """Bytes in memory that were there at the start or are sure to come: compute buffers fill with the first prompt."""
    return taken.resident_bytes + _sum(taken.buffers, part="compute", device="cpu")


def _on_gpus(taken: Taken) -> Mapping[str, int]:
    """By the engine's word, else by the driver's, which counts its own context too."""
    told = {one.device for one in taken.buffers if one.device != "cpu"}
    return {device: _sum(taken.buffers, device=device) for device in sorted(told)} or taken.gpu_bytes


def _needed_pages(taken: Taken, plan: LoadPlan) -> int:
    """Of the model's pages in memory, those that will be read again."""
    if plan.options.mlock:
        return taken.file_bytes
    if taken.buffers:
        return max(0, taken.file_bytes - _sum(taken.buffers, part="weights", kind="copy"))
    return min(taken.file_bytes, plan.footprint.mapped_bytes)


def _shared_out(total: int, predicted: Footprint) -> Figures:
    """A measured sum in the plan's parts, as far as it goes; what is over is `other`."""
    weights = min(predicted.weight_bytes, total)
    cached = min(predicted.kv_bytes, total - weights)
    compute = min(predicted.compute_bytes, total - weights - cached)
    return Figures("measured", weights, cached, compute, total - weights - cached - compute)


def _sums(several: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in several:
        found.update(one)
    return dict(found)


def _sum(buffers: tuple[Buffer, ...], *, part: str = "", device: str = "", kind: str = "") -> int:
    return sum(
        one.bytes for one in buffers if part in ("", one.part) and device in ("", one.device) and kind in ("", one.kind)
    )
