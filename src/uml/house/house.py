"""A library with its workers: Settings -> House, opened and closed in order."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from uml.config import Settings
from uml.core.errors import UmlError
from uml.core.model import Model
from uml.core.plan import WorkerStatus
from uml.hardware import snapshot
from uml.house.library import Library
from uml.runtime.limits import Limits
from uml.runtime.policy import Policy
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.sessions import Sessions
from uml.runtime.supervisor import Observer, Supervisor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class House:
    """A library with its workers; lives as long as the server."""

    library: Library
    supervisor: Supervisor

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, observer: Observer | None = None) -> AsyncIterator[House]:
        """Open everything in order, and close it in the opposite one."""
        library = await asyncio.to_thread(Library.open, settings)
        await asyncio.to_thread(library.installs.sweep)
        confinement = await asyncio.to_thread(_confinement, settings)
        async with Supervisor(
            engines=library.engines,
            planner=library.plan,
            preparer=library.prepare,
            defaults=library.defaults,
            runtime_folder=settings.runtime,
            log_folder=settings.data / "logs",
            snapshot=snapshot,
            load_timeout_s=settings.load_timeout_s,
            policy=policy(settings),
            fresh=library.registry.fresh,
            sessions=Sessions(settings.data / "sessions", settings.session_disk, settings.session_stop_s),
            observer=observer,
            records=library,
            hang_s=settings.hang_timeout_s,
            request_limit_s=settings.request_timeout_s,
            confinement=confinement,
        ) as supervisor:
            yield cls(library, supervisor)

    def preload(self) -> tuple[str, ...]:
        """Have the models loaded that the setting names. Returns the names that mean no model, as yet."""
        unknown, models = [], []
        for name in self.library.settings.preload:
            try:
                models.append(self.library.find(name))
            except UmlError as error:
                log.debug("%s cannot be preloaded: %s", name, error)
                unknown.append(name)
        self.supervisor.preload(models)
        return tuple(unknown)

    def describe(self, model: Model) -> dict[str, Any]:
        """A model as `/v1/models` shows it, with the state of its worker."""
        return self.library.describe(model, self.worker(model.id))

    def worker(self, model_id: str) -> WorkerStatus | None:
        """The status of a model's worker, where it has one."""
        return next((status for status in self.supervisor.status() if status.model == model_id), None)


def policy(settings: Settings) -> Policy:
    """How patient the scheduler is with these settings."""
    return Policy(
        queue_limit=settings.queue_limit,
        idle_unload_s=math.inf if settings.idle_unload_s < 0 else settings.idle_unload_s,
        turn_s=settings.swap_turn_s,
        turn_requests=settings.swap_turn_requests,
        retry_s=settings.load_retry_s,
        deaths=settings.quarantine_deaths,
    )


def _confinement(settings: Settings) -> Confinement:
    """How this server's workers are kept. Raises SandboxUnavailable."""
    limits = Limits(settings.worker_memory_bytes, settings.worker_cpu_share, settings.worker_nice)
    return Confinement.here(settings.sandbox, limits, settings.data / "cache", settings.sandbox_reads)
