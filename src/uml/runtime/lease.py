"""One request's hold on a worker: what it is, and how it is taken and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

from uml.core.engine import EngineSpec
from uml.core.errors import ConnectionLost, RequestTimeLimit, UmlError, WorkerDied
from uml.core.model import Model
from uml.core.plan import LoadPlan
from uml.runtime.attended import Attended
from uml.runtime.workers.channel import Channel


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
