"""Carries out what the scheduler decides: starts, stops and measures, and wakes who waits.

Everything here runs on one event loop and needs no lock: an event goes in, its effects come out and
are carried out before anything else happens.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from uml.core.engine import Engine
from uml.core.errors import Overloaded
from uml.core.machine import Device, Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Progress, WorkerStatus
from uml.runtime import board
from uml.runtime.alarm import Alarm
from uml.runtime.attended import Attended
from uml.runtime.lease import Lease, Leasing
from uml.runtime.memory import Gauge
from uml.runtime.observer import Observer, Unobserved
from uml.runtime.planner import CarefulPlanner
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.scheduling.events import (
    Asked,
    Effect,
    Event,
    Exited,
    Failed,
    Grant,
    Keep,
    Kept,
    Left,
    Measured,
    Planner,
    Preparer,
    Refuse,
    Released,
    Start,
    Stop,
    Tick,
    Unload,
)
from uml.runtime.scheduling.policy import Policy
from uml.runtime.scheduling.queue import Place
from uml.runtime.scheduling.scheduler import Scheduler
from uml.runtime.scheduling.wishes import Absent
from uml.runtime.sessions import Sessions
from uml.runtime.sessions.remembering import Remembering
from uml.runtime.taken import Records
from uml.runtime.tickets import Tickets
from uml.runtime.workers.converting import Converter
from uml.runtime.workers.watch import HANG_S
from uml.runtime.workforce import Workforce

__all__ = ["Lease", "Observer", "Supervisor"]

log = logging.getLogger(__name__)

PROGRESS_S: Final = 0.2


class Supervisor:
    """Workers by model. An async context manager: when it is left, every worker is gone, and the folder of sockets.

    Entering raises FolderNotWritable, and ends workers that a killed server left behind.

    fresh: looks a model's file up once more, in a thread, when something went wrong with it. Raises BadFile.
    usual: how a model is loaded where nobody says, asked in a thread before each load; None: by the defaults.
    limit: bytes of a device that models may take together, those asleep among them; None where nobody set a limit.
    """

    def __init__(
        self,
        *,
        engines: Mapping[str, Engine],
        planner: Planner,
        defaults: LoadOptions,
        runtime_folder: Path,
        log_folder: Path,
        snapshot: Callable[[], Machine],
        load_timeout_s: float,
        policy: Policy | None = None,
        fresh: Callable[[Model], Model] = lambda model: model,
        observer: Observer | None = None,
        preparer: Preparer | None = None,
        sessions: Sessions | None = None,
        records: Records | None = None,
        hang_s: float = HANG_S,
        request_limit_s: float | None = None,
        confinement: Confinement | None = None,
        converter: Converter | None = None,
        usual: Callable[[Model], LoadOptions] | None = None,
        limit: Callable[[Device], int | None] = lambda device: None,
    ) -> None:
        self._engines = engines
        if sessions:
            planner = Remembering(
                planner, sessions.shelf.of, lambda plan, kept: sessions.goes_on(engines[plan.engine], plan, kept)
            )
        self._planner = CarefulPlanner(planner, engines, preparer)
        self._request_limit_s = request_limit_s
        self._defaults = defaults
        self._policy = policy or Policy()
        self._fresh = fresh
        self._usual = usual or (lambda model: defaults)
        self._observer = observer or Unobserved()
        self._scheduler: Scheduler
        self._tickets = Tickets()
        self._waiting = 0
        self._open = False
        self._gauge = Gauge(snapshot, lambda machine: self._feed(Measured(self._workforce.counted(machine))))
        self._alarm = Alarm(lambda: self._feed(Tick()))
        self._workforce = Workforce(
            engines,
            runtime_folder,
            log_folder,
            load_timeout_s,
            tell=self._feed,
            relieved=self._measure_for_others,
            observer=observer,
            sessions=sessions,
            records=records,
            hang_s=hang_s,
            confinement=confinement,
            converter=converter,
            limit=limit,
        )

    async def __aenter__(self) -> Self:
        swept, machine = await asyncio.gather(asyncio.to_thread(self._workforce.open), self._gauge.look())
        for model in swept:
            log.warning("ended the worker of %s that an earlier server had left behind", model)
        self._scheduler = Scheduler(
            self._planner,
            self._workforce.counted(machine),
            self._defaults,
            self._policy,
            lambda engine: self._engines[engine].spec.options,
            lambda engine: self._engines[engine].spec.precautions,
        )
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # From here on nothing is scheduled: the exits below must not start who waits.
        self._open = False
        self._alarm.cancel()
        self._tickets.refuse_all(_stopping)
        await self._workforce.close()
        await self._gauge.close()

    # What others ask.

    def lease(
        self,
        model: Model,
        options: LoadOptions | None = None,
        slots: int = 1,
        needs: tuple[str, ...] = (),
        keep_alive_s: float | None = None,
        *,
        wants: tuple[str, ...] = (),
    ) -> Leasing:
        """Hold the model's worker, loaded first where it is not: `async with supervisor.lease(model) as lease`.

        Waits in the queue; cancelling the waiting task leaves it at once. Raises every error of
        planning and loading, and Overloaded. needs, keep_alive_s, wants: see `Asked`.
        """
        asked = Asked(self._tickets.draw(), model, options, slots, needs, keep_alive_s, wants=wants)
        asking = partial(self._acquire, asked)
        return Leasing(model.id, asking, self._release, self._request_limit_s)

    async def load(
        self, model: Model, options: LoadOptions | None = None, keep_alive_s: float | None = None, *, pin: bool = False
    ) -> WorkerStatus:
        """Load a model, or find it loaded. Cancelling gives the load up unless somebody else waits for it.

        It is loaded whatever failed before. pin: from then on it is never evicted, and loaded again after a death.
        """
        async with self._loading(model, options, keep_alive_s) as (_, granted):
            worker = await granted
            if pin:
                self._feed(Keep(model, "pinned"))
            return board.status(worker, self._workforce, self._scheduler)

    def unpin(self, model: Model) -> bool:
        """Let a model go when it is idle or another needs its memory. Returns whether it was to be kept."""
        was = bool(self._scheduler.kept(model.id))
        self._feed(Keep(model, ""))
        return was

    def keep(self, model: Model, how: Kept, options: LoadOptions | None = None) -> None:
        """Have a model loaded once memory is free for it, and again after a death; errors are logged. See `Keep`."""
        self._feed(Keep(model, how, options))

    def kept(self, model: str) -> Kept:
        """Whether a model is to be there."""
        return self._scheduler.kept(model)

    def asked(self, model: str) -> LoadOptions | None:
        """What somebody asked for when the model was loaded; None where it is not."""
        worker = self._scheduler.workers.get(model)
        return worker.asked if worker else None

    async def load_progress(
        self, model: Model, options: LoadOptions | None = None, keep_alive_s: float | None = None
    ) -> AsyncIterator[Progress]:
        """As `load`, telling how far it is a few times a second; the last one says `ready`.

        Closing the iterator early gives the load up unless somebody else waits for it.
        """
        began = time.monotonic()
        async with self._loading(model, options, keep_alive_s) as (ticket, granted):
            last = Progress(model.id, "queued")
            while not granted.done():
                place, settling = self._scheduler.place(ticket), self._gauge.settling
                step = board.progress(model.id, self._workforce, place, began, settling=settling)
                if step.percent < last.percent:  # between a conversion and what follows, or tried again with less
                    step = replace(step, percent=last.percent, bytes=last.bytes, total_bytes=last.total_bytes)
                yield (last := step)
                await asyncio.wait({granted}, timeout=PROGRESS_S)
            plan = granted.result().plan
            size = plan.model.info.size_bytes
            yield Progress(model.id, "ready", size, size, 100.0, time.monotonic() - began)

    def is_outdated(self, model: Model) -> bool:
        """Whether its worker has loaded another file than the one that lies there now; never of a pinned model."""
        worker = self._workforce.live.get(model.id)
        if worker is None or self._scheduler.kept(model.id) == "pinned":
            return False
        loaded = worker.plan.model
        return (loaded.created, loaded.info) != (model.created, model.info)

    async def unload(self, models: Sequence[str] | None = None) -> tuple[str, ...]:
        """End the workers of these models, or of all, and wait until they are gone. None of them is kept any more.

        A busy one goes when its requests are done. Returns the models that were loaded.
        """
        return await self.gone(self.send_off(models))

    def send_off(self, models: Sequence[str] | None = None) -> tuple[Attended, ...]:
        """The first half of `unload`, after which none of them is kept: the workers that end now, for `gone`."""
        live = self._workforce.live
        asleep = {worker.plan.model.id: worker for worker in self._workforce.asleep}
        everybody = (*live, *asleep, *self._scheduler.wished, *self._workforce.failed)
        wanted = everybody if models is None else tuple(models)
        for model in wanted:
            self._workforce.failed.pop(model, None)
        leaving = [live[model] for model in dict.fromkeys(wanted) if model in live]
        sleepers = [asleep[model] for model in dict.fromkeys(wanted) if self._workforce.end_asleep(model)]
        self._feed(Unload(tuple(dict.fromkeys(wanted))))
        for worker in leaving:
            worker.process.hurry()
        return (*leaving, *sleepers)

    async def gone(self, leaving: Sequence[Attended]) -> tuple[str, ...]:
        """Wait until these workers are gone; whose they were."""
        for worker in leaving:
            await worker.gone.wait()
        return tuple(worker.plan.model.id for worker in leaving)

    def status(self) -> tuple[WorkerStatus, ...]:
        """Every worker, and of models without one the last that ended by itself, as `failed`."""
        there = (*self._workforce.live.values(), *self._workforce.asleep, *self._workforce.failed.values())
        return tuple(board.status(worker, self._workforce, self._scheduler) for worker in there)

    def absent(self) -> tuple[Absent, ...]:
        """The models that are to be there and of which `status` tells nothing."""
        told = {worker.plan.model.id for worker in self._workforce.asleep} | self._workforce.failed.keys()
        return tuple(one for one in self._scheduler.absent if one.model not in told)

    def queue(self) -> tuple[Place, ...]:
        """Who waits for which model, in order."""
        return self._scheduler.places(time.monotonic())

    def log_tail(self, model: str, lines: int) -> str:
        """The last lines that the model's worker wrote, also after its end; empty where there are none."""
        return self._workforce.log_of(model).lines(lines) if Path(model).name == model else ""

    # The queue.

    async def _acquire(self, asked: Asked) -> tuple[int, Lease]:
        """A ticket and its lease, for `Leasing`."""
        begin, model = time.monotonic(), asked.model
        worker = self._workforce.live.get(model.id)
        if worker is None or not worker.ready_at or not self._scheduler.serves(asked):
            asked = await self._look_ahead(asked)
            model = asked.model
        ticket, granted = self._ask(asked)
        place = 0 if granted.done() else self._scheduler.position(ticket)
        try:
            worker = await granted
        except asyncio.CancelledError:
            self._leave(ticket)
            raise
        worker.requests += 1
        waited_s, loaded = time.monotonic() - begin, worker.ready_at > begin
        return ticket, Lease(model, worker.spec, worker.plan, worker.process.channel, waited_s, loaded, worker, place)

    def _release(self, ticket: int, worker: Attended) -> None:
        self._workforce.used(worker)
        self._feed(Released(ticket))

    @asynccontextmanager
    async def _loading(
        self, model: Model, options: LoadOptions | None, keep_alive_s: float | None
    ) -> AsyncIterator[tuple[int, asyncio.Future[Attended]]]:
        asked = Asked(self._tickets.draw(), model, options, 0, (), keep_alive_s, person=True)
        ticket, granted = self._ask(await self._look_ahead(asked))
        try:
            yield ticket, granted
        finally:
            self._leave(ticket, abandon=True)
            if granted.done() and not granted.cancelled():
                granted.exception()  # has been seen, or nobody wants to any more

    async def _look_ahead(self, asked: Asked) -> Asked:
        """What a load is planned with: what is free, what the load takes, its usual options, the file if at fault."""
        model = asked.model
        if self._open and self._scheduler.held_back(model.id):
            model = await asyncio.to_thread(self._fresh, model)
        asked = replace(asked, model=model, usual=await asyncio.to_thread(self._usual, model))
        await self._measure()
        if self._open and not self._scheduler.serves(asked):
            await self._planner.prepare(model, *self._scheduler.outlook(asked))
        return asked

    def _ask(self, asked: Asked) -> tuple[int, asyncio.Future[Attended]]:
        """Put it into the queue."""
        if not self._open:
            raise _stopping()
        granted = self._tickets.wait(asked.ticket)
        self._feed(asked)
        return asked.ticket, granted

    def _leave(self, ticket: int, abandon: bool = False) -> None:
        # For a ticket that was granted the scheduler takes this as its release.
        self._tickets.tear(ticket)
        self._feed(Left(ticket, abandon))

    def _feed(self, event: Event) -> None:
        if not self._open:
            return
        if isinstance(event, Exited | Failed):
            self._gauge.settle()
        effects = self._scheduler.on(event, time.monotonic())
        for effect in effects:
            self._carry_out(effect)
        if isinstance(event, Asked) and len(effects) == 1 and isinstance(effects[0], Grant):
            return  # of a request that is served at once nothing comes that is due sooner, or that anybody waits for
        if self._workforce.converted:
            asked = {waiter.asked.model.id for waiter in self._scheduler.waiting.values()}
            self._workforce.converted &= asked.union(self._scheduler.wished)
        waiting = len(self._scheduler.waiting)
        if waiting != self._waiting:
            self._waiting = waiting
            self._observer.queue_changed(waiting)
        self._alarm.set(self._scheduler.deadline_s)

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Grant):
            self._tickets.grant(effect.ticket, self._workforce.live[effect.model])
        elif isinstance(effect, Refuse):
            self._tickets.refuse(effect.ticket, effect.error)
        elif isinstance(effect, Start):
            self._workforce.start(effect.plan)
        elif isinstance(effect, Stop):
            self._workforce.stop(effect.model, effect.reason)
        else:
            log.warning("%s is not loaded, though it is to be kept: %s", effect.model, effect.error)

    async def _measure_for_others(self) -> None:
        if self._waiting:
            await self._measure()

    async def _measure(self) -> None:
        # Not while a worker starts: the figure of before, less what it was promised, is better than
        # one from the middle of a load.
        if not any(worker.state == "starting" for worker in self._scheduler.workers.values()):
            await self._gauge.measure()


def _stopping() -> Overloaded:
    return Overloaded("the server is stopping; try again when it is up")
