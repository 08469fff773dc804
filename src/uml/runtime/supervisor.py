"""Carries out what the scheduler decides: starts, stops and measures, and wakes who waits.

Everything here runs on one event loop and needs no lock: an event goes in, its effects come out and
are carried out before anything else happens.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from uml.config.folders import SOCKET_PATH_BYTES, ensure_private, ensure_writable
from uml.core.engine import Endpoint, Engine
from uml.core.errors import FolderNotWritable, LoadFailed, Overloaded, UmlError
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan, Progress, Stage, WorkerStatus
from uml.planning.evict import Running
from uml.runtime.ending import Ending
from uml.runtime.events import (
    Asked,
    Effect,
    Event,
    Exited,
    Failed,
    Grant,
    Keep,
    Left,
    Measured,
    Missed,
    Planner,
    Preparer,
    Ready,
    Refuse,
    Released,
    Start,
    Tick,
    Unload,
)
from uml.runtime.lease import Attended, Lease, Leasing
from uml.runtime.logs import WorkerLog
from uml.runtime.memory import Gauge
from uml.runtime.observer import Observer, Unobserved
from uml.runtime.orphans import sweep
from uml.runtime.policy import Policy
from uml.runtime.process import WorkerProcess
from uml.runtime.queue import Place
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.scheduler import Scheduler
from uml.runtime.sessions import SAVE_LIMIT_S, Sessions
from uml.runtime.taken import Records, Weighing, total_bytes
from uml.runtime.watch import HANG_S

__all__ = ["Lease", "Observer", "Supervisor"]

log = logging.getLogger(__name__)

PROGRESS_S: Final = 0.2
SHORTEST_WAIT_S: Final = 0.001
FAILURES_KEPT: Final = 32
NOTICE_S: Final = 1.0
"""Within this the end of a process is noticed."""
_NUMBERS = itertools.count(1)


class Supervisor:
    """Workers by model. An async context manager: when it is left, every worker is gone, and the folder of sockets.

    Entering raises FolderNotWritable, and ends workers that a killed server left behind.

    fresh: looks a model's file up once more, in a thread, when something went wrong with it. Raises BadFile.
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
    ) -> None:
        self._engines = engines
        self._planner = planner
        self._preparer = preparer
        self._sessions = sessions
        self._hang_s = hang_s
        self._confinement = confinement
        self._request_limit_s = request_limit_s
        self._records = records
        self._defaults = defaults
        self._runtime_folder = runtime_folder
        self._log_folder = log_folder
        self._gauge = Gauge(snapshot, lambda machine: self._feed(Measured(machine)))
        self._load_timeout_s = load_timeout_s
        self._policy = policy or Policy()
        self._fresh = fresh
        self._observer = observer or Unobserved()
        self._scheduler: Scheduler
        self._live: dict[str, Attended] = {}
        self._failed: dict[str, Attended] = {}
        self._pending: dict[int, asyncio.Future[Attended]] = {}
        self._tending: set[asyncio.Task[None]] = set()
        self._tickets = 0
        self._waiting = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = 0.0
        self._evicting_since = 0.0
        self._open = False

    async def __aenter__(self) -> Self:
        swept, machine = await asyncio.gather(asyncio.to_thread(self._prepare), self._gauge.look())
        for model in swept:
            log.warning("ended the worker of %s that an earlier server had left behind", model)
        self._scheduler = Scheduler(self._plan, machine, self._defaults, self._policy, self._honours)
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # From here on nothing is scheduled: the exits below must not start who waits.
        self._open = False
        if self._alarm:
            self._alarm.cancel()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(_stopping())
        self._pending.clear()
        for worker in self._live.values():
            self._see_off(worker, self._sessions.stop_limit_s if self._sessions else 0.0)
        while self._tending:
            await asyncio.wait(self._tending)
        if self._sessions:
            await self._sessions.close()
        await self._gauge.close()
        with suppress(OSError):
            self._runtime_folder.rmdir()  # it stays where something of ours is still in it

    # What others ask.

    def lease(
        self,
        model: Model,
        options: LoadOptions | None = None,
        slots: int = 1,
        needs: tuple[str, ...] = (),
        keep_alive_s: float | None = None,
    ) -> Leasing:
        """Hold the model's worker, loaded first where it is not: `async with supervisor.lease(model) as lease`.

        Waits in the queue; cancelling the waiting task leaves it at once. Raises every error of
        planning and loading, and Overloaded. needs, keep_alive_s: see `Asked`.
        """
        asking = partial(self._acquire, model, options, slots, needs, keep_alive_s)
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
            return self._status(worker)

    def unpin(self, model: Model) -> bool:
        """Let a model go when it is idle or another needs its memory. Returns whether it was to be kept."""
        was = bool(self._scheduler.kept(model.id))
        self._feed(Keep(model, ""))
        return was

    def preload(self, models: Sequence[Model]) -> None:
        """Have these loaded, as many as memory is free for, and loaded again after a death; errors are logged."""
        for model in models:
            self._feed(Keep(model, "preloaded"))

    async def load_progress(
        self, model: Model, options: LoadOptions | None = None, keep_alive_s: float | None = None
    ) -> AsyncIterator[Progress]:
        """As `load`, telling how far it is a few times a second; the last one says `ready`.

        Closing the iterator early gives the load up unless somebody else waits for it.
        """
        began = time.monotonic()
        async with self._loading(model, options, keep_alive_s) as (ticket, granted):
            while not granted.done():
                yield self._progress(model, ticket, began)
                await asyncio.wait({granted}, timeout=PROGRESS_S)
            plan = granted.result().plan
            size = plan.model.info.size_bytes
            yield Progress(model.id, "ready", size, size, 100.0, time.monotonic() - began)

    async def unload(self, models: Sequence[str] | None = None) -> tuple[str, ...]:
        """End the workers of these models, or of all, and wait until they are gone.

        A busy one goes when its requests are done. Returns the models that were loaded.
        """
        wanted = tuple(self._live) if models is None else tuple(models)
        for model in wanted:
            self._failed.pop(model, None)
        leaving = [self._live[model] for model in dict.fromkeys(wanted) if model in self._live]
        names = tuple(worker.plan.model.id for worker in leaving)
        self._feed(Unload(names))
        for worker in leaving:
            worker.process.hurry()
        for worker in leaving:
            await worker.gone.wait()
        return names

    def status(self) -> tuple[WorkerStatus, ...]:
        """Every worker, and of models without one the last that ended by itself, as `failed`."""
        return tuple(self._status(worker) for worker in (*self._live.values(), *self._failed.values()))

    def queue(self) -> tuple[Place, ...]:
        """Who waits for which model, in order."""
        return self._scheduler.places()

    def log_tail(self, model: str, lines: int) -> str:
        """The last lines that the model's worker wrote, also after its end; empty where there are none."""
        return WorkerLog(self._log_folder, model).lines(lines) if Path(model).name == model else ""

    # The queue.

    async def _acquire(
        self,
        model: Model,
        options: LoadOptions | None,
        slots: int,
        needs: tuple[str, ...],
        keep_alive_s: float | None,
    ) -> tuple[int, Lease]:
        """A ticket and its lease, for `Leasing`."""
        asked = time.monotonic()
        worker = self._live.get(model.id)
        if worker is None or not worker.ready_at or not self._scheduler.serves(Asked(0, model, options, 0, needs)):
            model = await self._look_ahead(model, options, needs)
        ticket, granted = self._ask(model, options, slots, needs, keep_alive_s)
        place = 0 if granted.done() else self._scheduler.position(ticket)
        try:
            worker = await granted
        except asyncio.CancelledError:
            self._leave(ticket)
            raise
        worker.requests += 1
        waited_s, loaded = time.monotonic() - asked, worker.ready_at > asked
        return ticket, Lease(model, worker.spec, worker.plan, worker.process.channel, waited_s, loaded, worker, place)

    def _release(self, ticket: int, worker: Attended) -> None:
        worker.used_at = time.monotonic()
        if worker.weighing and worker.weighing.used():
            self._hand_on(worker.weighing)
            self._spawn(self._keep(worker.weighing))
        self._feed(Released(ticket))

    @asynccontextmanager
    async def _loading(
        self, model: Model, options: LoadOptions | None, keep_alive_s: float | None
    ) -> AsyncIterator[tuple[int, asyncio.Future[Attended]]]:
        model = await self._look_ahead(model, options)
        ticket, granted = self._ask(model, options, 0, (), keep_alive_s, person=True)
        try:
            yield ticket, granted
        finally:
            self._leave(ticket, abandon=True)
            if granted.done() and not granted.cancelled():
                granted.exception()  # has been seen, or nobody wants to any more

    async def _look_ahead(self, model: Model, options: LoadOptions | None, needs: tuple[str, ...] = ()) -> Model:
        """What a load is planned with: what is free, what the load takes, and the file where it was at fault."""
        if self._open and self._scheduler.held_back(model.id):
            model = await asyncio.to_thread(self._fresh, model)
        await self._measure()
        await self._prepare_plan(model, options, needs)
        return model

    async def _prepare_plan(self, model: Model, options: LoadOptions | None, needs: tuple[str, ...] = ()) -> None:
        """Let what takes long be found out in a thread, before a plan is made here."""
        asked = Asked(0, model, options, 0, needs)
        if self._preparer is None or not self._open or self._scheduler.serves(asked):
            return
        outlook = self._scheduler.outlook(asked)
        try:
            await asyncio.to_thread(self._preparer, model, *outlook)
        except Exception:
            # It only makes the plan's figures better; whatever is wrong with the model, the plan says so itself.
            log.debug("preparing %s failed", model.id, exc_info=True)

    def _ask(
        self,
        model: Model,
        options: LoadOptions | None,
        slots: int,
        needs: tuple[str, ...],
        keep_alive_s: float | None,
        *,
        person: bool = False,
    ) -> tuple[int, asyncio.Future[Attended]]:
        if not self._open:
            raise _stopping()
        self._tickets += 1
        ticket = self._tickets
        granted = self._pending[ticket] = asyncio.get_running_loop().create_future()
        self._feed(Asked(ticket, model, options, slots, needs, keep_alive_s, person))
        return ticket, granted

    def _leave(self, ticket: int, abandon: bool = False) -> None:
        # For a ticket that was granted the scheduler takes this as its release.
        self._pending.pop(ticket, None)
        self._feed(Left(ticket, abandon))

    def _feed(self, event: Event) -> None:
        if not self._open:
            return
        for effect in self._scheduler.on(event, time.monotonic()):
            self._carry_out(effect)
        waiting = len(self._scheduler.waiting)
        if waiting != self._waiting:
            self._waiting = waiting
            self._observer.queue_changed(waiting)
        self._set_alarm()

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Grant):
            future = self._pending.pop(effect.ticket, None)
            if future is not None and not future.done():
                future.set_result(self._live[effect.model])
        elif isinstance(effect, Refuse):
            future = self._pending.pop(effect.ticket, None)
            if future is not None and not future.done():
                future.set_exception(effect.error)
        elif isinstance(effect, Start):
            self._start(effect.plan)
        elif isinstance(effect, Missed):
            log.warning("%s is not loaded, though it is to be kept: %s", effect.model, effect.error)
        else:
            worker = self._live[effect.model]
            if effect.reason == "evicted" and not self._evicting_since:
                self._evicting_since = time.monotonic()
            self._observer.worker_stopping(effect.model, worker.plan.engine, effect.reason)
            self._see_off(worker, SAVE_LIMIT_S)

    def _set_alarm(self) -> None:
        """Have a Tick for the next moment at which something is due, however quiet it is until then."""
        due_s = self._scheduler.deadline_s
        if due_s == math.inf or (self._alarm and self._alarm_s <= due_s):
            return  # one that rings too early only looks again
        if self._alarm:
            self._alarm.cancel()
        self._alarm_s = due_s
        wait_s = max(SHORTEST_WAIT_S, due_s - time.monotonic())
        self._alarm = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._feed(Tick())

    def _honours(self, engine: str) -> Collection[str]:
        return self._engines[engine].spec.options

    def _plan(self, model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running]) -> LoadPlan:
        try:
            return self._planner(model, options, machine, running)
        except UmlError:
            raise
        except Exception as error:
            # A planner reads files of strangers. One that breaks on a file must not stop the queue.
            log.exception("planning %s failed", model.id)
            raise LoadFailed(model.id, f"it could not be planned: {type(error).__name__}: {error}") from error

    # Workers.

    def _start(self, plan: LoadPlan) -> None:
        name = f"{os.getpid()}-{next(_NUMBERS)}"
        engine, folder, model = self._engines[plan.engine], self._runtime_folder, plan.model.id
        saved = self._sessions.folder(engine, plan) if self._sessions else None
        endpoint = Endpoint(key=secrets.token_urlsafe(24), socket=folder / name / "w.sock", sessions=saved)
        worker_log = WorkerLog(self._log_folder, model)
        process = WorkerProcess(
            engine,
            plan,
            endpoint,
            worker_log,
            folder / f"{name}.worker",
            self._load_timeout_s,
            hang_s=self._hang_s,
            confinement=self._confinement,
        )
        worker = self._live[model] = Attended(process, plan, engine.spec, time.monotonic())
        if self._sessions:
            worker.sitting = self._sessions.attend(engine, plan, process.channel, saved)
        # Nothing starts while memory comes back, so that what left last has left for this one.
        worker.swapping_since, self._evicting_since = self._evicting_since, 0.0
        self._failed.pop(model, None)
        self._observer.load_started(model, plan.engine)
        self._spawn(self._tend(worker), f"worker of {model}")

    def _see_off(self, worker: Attended, limit_s: float) -> None:
        """Have a worker stop; what it holds of conversations is saved first, for so long at most."""
        worker.told = True
        if worker.farewell is not None:
            asyncio.get_running_loop().call_later(limit_s, worker.farewell.cancel)
        elif worker.sitting is None or not worker.ready_at or not limit_s:
            worker.process.stop()
        else:
            worker.farewell = self._spawn(worker.sitting.save(limit_s))
            # However it ends, also before it began.
            worker.farewell.add_done_callback(lambda _: worker.process.stop())

    async def _tend(self, worker: Attended) -> None:
        """Be with a worker all its life, and tell the scheduler."""
        model, process = worker.plan.model.id, worker.process
        running = asyncio.ensure_future(process.run())
        ready = asyncio.ensure_future(process.ready.wait())
        try:
            await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
            if process.ready.is_set() and self._records and process.pid:
                worker.weighing = Weighing(worker.plan, self._engines[worker.plan.engine], process.pid, self._records)
                worker.weighing.ready()
            if process.ready.is_set() and worker.sitting:
                # Before anybody is served: the first request must find its conversation.
                await worker.sitting.restore(lambda: worker.told)
                if worker.sitting.broken:
                    await asyncio.wait({running}, timeout=NOTICE_S)
            if process.ready.is_set() and not running.done():
                worker.ready_at = worker.used_at = time.monotonic()
                self._observer.load_ended(model, worker.plan.engine, worker.ready_at - worker.started, None)
                if worker.swapping_since:
                    self._observer.swapped(model, worker.plan.engine, worker.ready_at - worker.swapping_since)
                self._feed(Ready(model))
                self._spawn(self._weigh(worker))
                if self._waiting:
                    # Who still waits is for another model: it is planned with what this one really took.
                    await self._measure()
            ending = await running
        except asyncio.CancelledError:
            running.cancel()
            raise
        except Exception as error:
            # Engines are plug-ins: one that breaks while it tells how to start must not lose the worker's place.
            log.exception("the worker of %s was lost", model)
            ending = Ending(None, LoadFailed(model, f"{type(error).__name__}: {error}"))
        finally:
            ready.cancel()
        self._bury(worker, ending)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None]:
        """Have something done that this supervisor's end waits for."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tending.add(task)
        task.add_done_callback(self._tending.discard)
        return task

    async def _weigh(self, worker: Attended) -> None:
        """See what a worker has taken, now that it serves, and write it down."""
        weighing, plan = worker.weighing, worker.plan
        if weighing is None or not await asyncio.to_thread(weighing.settle, worker.process.log):
            return
        if weighing.figures:
            measured = total_bytes(weighing.figures)
            footprint = plan.footprint
            self._observer.worker_measured(
                plan.model.id, plan.engine, footprint.method, footprint.total_bytes, measured
            )
        self._hand_on(weighing)
        await self._keep(weighing)

    def _hand_on(self, weighing: Weighing) -> None:
        """Have what a worker really needs stand in place of what its plan said."""
        worker = self._live.get(weighing.plan.model.id)
        if worker and worker.weighing is weighing and (weighed := weighing.weighed()):
            self._feed(weighed)

    async def _keep(self, weighing: Weighing) -> None:
        try:
            await asyncio.to_thread(weighing.keep)
        except UmlError as error:
            log.warning("what %s took is not remembered: %s", weighing.plan.model.id, error)

    def _bury(self, worker: Attended, ending: Ending) -> None:
        model, engine, served = worker.plan.model.id, worker.plan.engine, bool(worker.ready_at)
        del self._live[model]
        worker.ending = ending
        if not worker.told:
            log.warning("%s", ending.error)
            self._failed[model] = worker
            if len(self._failed) > FAILURES_KEPT:
                del self._failed[next(iter(self._failed))]
        if not served:
            code = "cancelled" if worker.told else ending.error.code if ending.error else "load_failed"
            self._observer.load_ended(model, engine, time.monotonic() - worker.started, code)
        self._observer.worker_exited(model, engine, ending.exit_code)
        if self._open:
            self._gauge.settle()
        if served or worker.told:
            self._feed(Exited(model, None if worker.told else ending.error))
        else:
            self._feed(Failed(model, ending.error or LoadFailed(model, "its process ended")))
        worker.gone.set()

    async def _measure(self) -> None:
        # Not while a worker starts: the figure of before, less what it was promised, is better than
        # one from the middle of a load.
        if not any(worker.state == "starting" for worker in self._scheduler.workers.values()):
            await self._gauge.measure()

    # What is shown.

    def _status(self, worker: Attended) -> WorkerStatus:
        model = worker.plan.model.id
        scheduled = self._scheduler.workers.get(model)
        mine = scheduled is not None and self._live.get(model) is worker
        in_flight = sum(1 for slots in scheduled.holders.values() if slots) if scheduled and mine else 0
        status = worker.status(in_flight, self._scheduler.queued(model))
        now_s, retry_at_s = time.monotonic(), self._scheduler.retry_at_s(model) or 0.0
        leaves_in_s = self._scheduler.expires_s(model) - now_s if mine else math.inf
        # What its last end said of the next request is not so any more.
        quarantine = None if mine else self._scheduler.quarantine(model)
        return replace(
            status,
            error=quarantine.as_dict()["error"] if quarantine else status.error,
            kept=self._scheduler.kept(model),
            unloads_in_s=max(0.0, leaves_in_s) if leaves_in_s < math.inf else None,
            retry_in_s=max(0.0, retry_at_s - now_s) if not mine and retry_at_s < math.inf else None,
        )

    def _progress(self, model: Model, ticket: int, began: float) -> Progress:
        seconds = time.monotonic() - began
        worker = self._live.get(model.id)
        if worker is None or worker.told or worker.ready_at:
            leaving = self._gauge.settling or any(other.told for other in self._live.values())
            place = self._scheduler.position(ticket)
            return Progress(model.id, "evicting" if leaving else "queued", seconds=seconds, queue_position=place)
        meter = worker.process.look()
        stage: Stage = "starting" if worker.process.pid is None else "loading"
        return Progress(model.id, stage, meter.bytes, meter.total_bytes, meter.percent, seconds)

    def _prepare(self) -> tuple[str, ...]:
        """Make the folders ready, in a thread. Returns the models whose left-behind workers were ended."""
        folder = ensure_private(self._runtime_folder)
        longest = folder / f"{os.getpid()}-999999" / "w.sock"
        if len(os.fsencode(longest)) >= SOCKET_PATH_BYTES:
            raise FolderNotWritable(folder, "its path is too long for a Unix socket")
        ensure_writable(self._log_folder)
        swept = sweep(folder)
        if self._sessions:
            self._sessions.open()
        return swept


def _stopping() -> Overloaded:
    return Overloaded("the server is stopping; try again when it is up")
