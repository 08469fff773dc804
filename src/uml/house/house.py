"""A library with its workers: Settings -> House, opened and closed in order."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from uml.config import Settings
from uml.core.errors import UmlError
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import WorkerStatus
from uml.hardware import snapshot
from uml.house.library import Library
from uml.planning.budget import Budget
from uml.registry.pins import Pin
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.scheduling.policy import Policy
from uml.runtime.sessions import Sessions
from uml.runtime.supervisor import Observer, Supervisor
from uml.runtime.workers.limits import Limits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class House:
    """A library with its workers; lives as long as the server."""

    library: Library
    supervisor: Supervisor
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, observer: Observer | None = None) -> AsyncIterator[House]:
        """Open everything in order, and close it in the opposite one."""
        library = await asyncio.to_thread(Library.open, settings)
        await asyncio.to_thread(library.installs.sweep)
        await asyncio.to_thread(library.converted.sweep)
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
            records=library.records,
            hang_s=settings.hang_timeout_s,
            request_limit_s=settings.request_timeout_s,
            confinement=confinement,
            converter=library.converted.make,
            usual=library.usual,
            limit=library.budget.of,
        ) as supervisor:
            yield cls(library, supervisor)

    def preload(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Have models loaded that are to be there: what was pinned before, then what the setting names.

        names: only these. Returns the names that mean no model, as yet.
        """
        unknown, pins = [], {pin.model: pin for pin in self._pins()}
        for name in (*pins, *self.library.settings.preload) if names is None else names:
            try:
                model = self.library.find(name)
            except UmlError as error:
                log.debug("%s cannot be preloaded: %s", name, error)
                unknown.append(name)
                continue
            if pin := pins.get(model.id):
                self.supervisor.keep(model, "pinned", self._options(model, pin.options))
            else:
                self.supervisor.keep(model, "preloaded", self._options(model))
        return tuple(unknown)

    async def pin(self, model: Model, options: LoadOptions | None = None) -> WorkerStatus:
        """Load a model and keep it, now and when the next server starts, until `unpin` or `unload`."""
        status = await self.supervisor.load(model, options, pin=True)
        try:
            # It is kept now: a client that leaves this moment must not leave the next server without the news.
            await asyncio.shield(self._write_pin(model, options))
        except UmlError as error:
            forgets = f"it is pinned until this server ends, and not after it: {error.message}"
            return replace(status, warnings=(*status.warnings, forgets))
        return status

    async def unpin(self, model: Model) -> bool:
        """Let a model go when it is idle or in the way. Returns whether it was to be kept.

        Raises SetupError where the next server cannot be told.
        """
        was = self.supervisor.unpin(model)
        if was:
            await asyncio.shield(self._drop_pins((model.id,)))
        return was

    async def renew(self, model: Model) -> None:
        """End its worker where the file has been replaced since it was loaded: who loads it wants what is there now.

        A busy worker goes when its requests are done. Raises BadFile for a file that is gone or no model any more;
        the worker, which has read it before, stays.
        """
        fresh = await asyncio.to_thread(self.library.registry.fresh, model)
        if self.supervisor.is_outdated(fresh):
            log.info("%s was replaced on the disk; it is loaded anew", model.id)
            await self.supervisor.unload([model.id])

    async def unload(self, models: Sequence[str] | None = None) -> tuple[str, ...]:
        """As `Supervisor.unload`; whoever unloads a pinned model does not want it back from the next server either."""
        leaving = self.supervisor.send_off(models)
        try:
            await asyncio.shield(self._drop_pins(models))
        except UmlError as error:
            log.warning("what is unloaded may be loaded by the next server: %s", error)
        return await self.supervisor.gone(leaving)

    # What is written of pins is what the supervisor says once it is our turn to write: whoever has changed that since
    # comes after us, and writes again.

    async def _write_pin(self, model: Model, options: LoadOptions | None) -> None:
        """Have the next server keep a model, unless somebody has let it go meanwhile. Raises SetupError."""
        async with self._writing:
            usual = await asyncio.to_thread(self.library.usual, model)
            if self.supervisor.kept(model.id) == "pinned":
                asked = self.supervisor.asked(model.id) or options or usual
                pin = Pin(model.id, asked.beyond(usual))
                await asyncio.to_thread(self.library.registry.pins.keep, pin)

    async def _drop_pins(self, models: Sequence[str] | None) -> None:
        """Have the next server keep none of these, or of all, but who was pinned meanwhile. Raises SetupError."""
        async with self._writing:
            pins = await asyncio.to_thread(self.library.registry.pins.all)
            named = [pin.model for pin in pins if models is None or pin.model in models]
            if gone := [model for model in named if self.supervisor.kept(model) != "pinned"]:
                await asyncio.to_thread(self.library.registry.pins.drop, gone)

    def _pins(self) -> tuple[Pin, ...]:
        try:
            return self.library.registry.pins.all()
        except UmlError as error:
            log.warning("what was pinned is not known: %s", error)
            return ()

    def _options(self, model: Model, pinned: Mapping[str, Any] | None = None) -> LoadOptions | None:
        """How a model that is to be there is loaded; None: as the settings say."""
        try:
            return self.library.options(model, pinned or {})
        except UmlError as error:
            log.warning("%s is loaded as the settings say, for it cannot be as it was wanted: %s", model.id, error)
            return None

    def options(self, model: Model) -> LoadOptions:
        """How a model is loaded; of one that is not, how it would be. Raises BadRequest as `Library.usual`."""
        return self.supervisor.asked(model.id) or self.library.usual(model)

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
    memory = Budget(worker=settings.worker_memory).of_one(snapshot().memory)
    limits = Limits(memory, settings.worker_cpu_share, settings.worker_nice)
    return Confinement.here(settings.sandbox, limits, settings.data / "cache", settings.sandbox_reads)
