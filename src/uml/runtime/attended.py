"""A worker, and what is known of it beside its process."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, Literal

from uml.core.engine import EngineSpec
from uml.core.jsonable import jsonable
from uml.core.plan import LoadPlan, WorkerStatus
from uml.runtime.sessions import Sitting
from uml.runtime.taken import Weighing, look_at_all, total_bytes
from uml.runtime.workers.ending import Ending
from uml.runtime.workers.process import WorkerProcess

MEMORY_AGE_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Attended:
    """A worker process and what the supervisor keeps about it. Times are of `time.monotonic`.

    told: the scheduler wants it gone. gone: set when its end has been dealt with.
    swapping_since: when the first of those was told to go that it was started in place of; 0: of none.
    sitting: the conversations that it saves; not_saved: why it saves none; farewell: it is saving them, and stops then.
    after: those whose memory it gets, and for whose end it waits. rest: whether it falls asleep, sleeps, or is woken.
    """

    process: WorkerProcess
    plan: LoadPlan
    spec: EngineSpec
    started: float
    ready_at: float = 0.0
    used_at: float = 0.0
    requests: int = 0
    told: bool = False
    swapping_since: float = 0.0
    ending: Ending | None = None
    weighing: Weighing | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sitting: Sitting | None = None
    not_saved: str = ""
    farewell: asyncio.Task[None] | None = None
    after: tuple[Attended, ...] = ()
    rest: Literal["", "falling", "asleep", "waking"] = ""
    _memory_bytes: int = 0
    _looked_at: float = 0.0

    def memory_bytes(self) -> int:
        """Resident now, at most a second old; 0 when it is not known."""
        now, pid = time.monotonic(), self.process.pid
        if pid is not None and now - self._looked_at > MEMORY_AGE_S:
            seen = look_at_all(pid)
            self._memory_bytes, self._looked_at = seen.resident_bytes if seen else 0, now
        return self._memory_bytes

    def _state(self) -> str:
        if self.rest == "waking":
            return "loading"
        return "stopping" if self.told else "asleep" if self.rest == "asleep" else self.process.state

    def status(self, in_flight: int, queued: int) -> WorkerStatus:
        """The worker as it is shown."""
        now, plan, ended = time.monotonic(), self.plan, self.ending is not None
        state = "failed" if ended else self._state()
        error = self.ending.error if self.ending else None
        taken = self.weighing.taken if self.weighing else None
        figures = self.weighing.figures if self.weighing else None
        return WorkerStatus(
            model=plan.model.id,
            engine=plan.engine,
            state=state,
            pid=None if ended else self.process.pid,
            options=jsonable(plan.options.changed()),
            device=plan.placement.device,
            memory_bytes=0 if ended else self.memory_bytes(),
            estimated_bytes=plan.footprint.total_bytes,
            context_length=plan.options.ctx,
            in_flight=in_flight,
            queued=queued,
            slots=plan.options.parallel,
            idle_s=now - self.used_at if self.ready_at and not in_flight and not ended else 0.0,
            load_s=self.ready_at - self.started if self.ready_at else 0.0,
            requests=self.requests,
            restored_tokens=self.sitting.restored_tokens if self.sitting else 0,
            not_saved=self.not_saved,
            progress=100.0 if self.ready_at else self.process.look().percent,
            error=error.as_dict()["error"] if error else None,
            warnings=plan.warnings,
            measured_bytes=total_bytes(figures) if figures else 0,
            peak_bytes=taken.peak_bytes if taken else 0,
            method=plan.footprint.method,
            reason=plan.placement.reason,
            choice=plan.choice,
        )
