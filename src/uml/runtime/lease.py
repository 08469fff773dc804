"""One request's hold on a worker: what it is, and how it is taken and given back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.errors import ConnectionLost, RequestTimeLimit, UmlError, WorkerDied
from uml.core.jsonable import jsonable
from uml.core.model import Model
from uml.core.plan import LoadPlan, WorkerStatus
from uml.runtime.channel import Channel
from uml.runtime.ending import Ending
from uml.runtime.process import WorkerProcess
from uml.runtime.progress import look
from uml.runtime.sessions import Sitting
from uml.runtime.taken import Weighing, total_bytes

MEMORY_AGE_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Attended:
    """A worker process and what the supervisor keeps about it. Times are of `time.monotonic`.

    told: the scheduler wants it gone. gone: set when its end has been dealt with.
    swapping_since: when the first of those was told to go that it was started in place of; 0: of none.
    sitting: the conversations that it saves; farewell: it is saving them, and stops then.
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
    farewell: asyncio.Task[None] | None = None
    _memory_bytes: int = 0
    _looked_at: float = 0.0

    def memory_bytes(self) -> int:
        """Resident now, at most a second old; 0 when it is not known."""
        now, pid = time.monotonic(), self.process.pid
        if pid is not None and now - self._looked_at > MEMORY_AGE_S:
            sample = look(pid)
            self._memory_bytes, self._looked_at = sample.resident_bytes if sample else 0, now
        return self._memory_bytes

    def status(self, in_flight: int, queued: int) -> WorkerStatus:
        """The worker as it is shown."""
        now, plan, ended = time.monotonic(), self.plan, self.ending is not None
        state = "failed" if ended else "stopping" if self.told else self.process.state
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
            progress=100.0 if self.ready_at else self.process.look().percent,
            error=error.as_dict()["error"] if error else None,
            warnings=plan.warnings,
            measured_bytes=total_bytes(figures) if figures else 0,
            peak_bytes=taken.peak_bytes if taken else 0,
            method=plan.footprint.method,
            reason=plan.placement.reason,
            choice=plan.choice,
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker that is ready, held until the context manager that gave the lease is left.

    waited_s: from the asking to the grant. loaded: the model was loaded in that time.
    queue_position: its place in the queue when it came, from 1; 0: it did not wait.
    """

    model: Model
    spec: EngineSpec
    plan: LoadPlan
    channel: Channel
    waited_s: float
    loaded: bool
    worker: Attended
    queue_position: int = 0

    async def fate(self, grace_s: float = 1.0) -> UmlError:
        """Why the connection broke: waits up to `grace_s` for the end of the process to be noticed."""
        try:
            async with asyncio.timeout(grace_s):
                await self.worker.gone.wait()
        except TimeoutError:
            reason = f"the engine of {self.model.id} broke the connection in mid-answer and still runs"
            return ConnectionLost(str(self.channel.endpoint.socket or self.channel.endpoint.host), reason)
        ending = self.worker.ending
        if ending is None or ending.error is None:
            return WorkerDied(self.model.id, "it was told to stop")
        return ending.error


class Leasing:
    """Takes a lease on entering and gives it back on leaving. A block that takes too long ends as RequestTimeLimit.

    acquire: waits for a ticket and its lease; release: gives them back. limit_s: of the block; None: no limit.
    """

    __slots__ = ("_acquire", "_deadline", "_lease", "_limit_s", "_model", "_release", "_ticket")

    def __init__(
        self,
        model: str,
        acquire: Callable[[], Awaitable[tuple[int, Lease]]],
        release: Callable[[int, Attended], None],
        limit_s: float | None,
    ) -> None:
        self._model = model
        self._acquire = acquire
        self._release = release
        self._limit_s = limit_s
        self._ticket = 0
        self._lease: Lease | None = None
        self._deadline: asyncio.Timeout | None = None

    async def __aenter__(self) -> Lease:
        self._ticket, self._lease = await self._acquire()
        if self._limit_s is not None:
            # The work counts, and not the wait for it.
            self._deadline = asyncio.timeout(self._limit_s)
            await self._deadline.__aenter__()
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lease is not None:
            self._release(self._ticket, self._lease.worker)
        if self._deadline is not None:
            try:
                await self._deadline.__aexit__(kind, error, trace)
            except TimeoutError:
                raise RequestTimeLimit(self._model, self._limit_s or 0.0) from None
