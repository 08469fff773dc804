"""Worker processes, from their start to their end: begun, weighed, asked to save, seen off and mourned."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from uml.config.folders import SOCKET_PATH_BYTES, ensure_private, ensure_writable
from uml.core.engine import Endpoint, Engine, Sleeps
from uml.core.errors import FolderNotWritable, LoadFailed, UmlError
from uml.core.machine import Device, Machine
from uml.core.plan import LoadPlan
from uml.runtime.asleep import Dormitory
from uml.runtime.attended import Attended
from uml.runtime.observer import Observer, Unobserved
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.scheduling.events import Event, Exited, Failed, Ready, Reason
from uml.runtime.sessions import SAVE_LIMIT_S, Sessions
from uml.runtime.taken import Records, Weighing, total_bytes
from uml.runtime.workers.channel import asking
from uml.runtime.workers.converting import Converter
from uml.runtime.workers.ending import Ending
from uml.runtime.workers.logs import WorkerLog
from uml.runtime.workers.orphans import sweep
from uml.runtime.workers.process import WorkerProcess
from uml.runtime.workers.watch import HANG_S

log = logging.getLogger(__name__)

FAILURES_KEPT: Final = 32
NOTICE_S: Final = 1.0
"""Within this the end of a process is noticed."""
_NUMBERS = itertools.count(1)


class Workforce:
    """Carries out starts and stops, and says what becomes of them. On the event loop of its supervisor.

    tell: called with Ready, Failed, Exited and Weighed. relieved: awaited after each Ready: who still waits is for
    another model, and to be planned with what this one really took.
    live: workers by model, until their end was told. failed: the last ones that ended by themselves.
    converted: models that were converted, and whose load is to go on from there.
    limit: bytes of a device that models may take together; None where nobody set a limit.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        folder: Path,
        log_folder: Path,
        load_timeout_s: float,
        tell: Callable[[Event], None],
        relieved: Callable[[], Awaitable[None]],
        *,
        observer: Observer | None = None,
        sessions: Sessions | None = None,
        records: Records | None = None,
        hang_s: float = HANG_S,
        confinement: Confinement | None = None,
        converter: Converter | None = None,
        limit: Callable[[Device], int | None] = lambda device: None,
    ) -> None:
        self.live: dict[str, Attended] = {}
        self.failed: dict[str, Attended] = {}
        self.converted: set[str] = set()
        self._engines = engines
        self._folder = folder
        self._log_folder = log_folder
        self._load_timeout_s = load_timeout_s
        self._tell = tell
        self._relieved = relieved
        self._observer = observer or Unobserved()
        self._sessions = sessions
        self._records = records
        self._hang_s = hang_s
        self._confinement = confinement
        self._converter = converter
        self._tending: set[asyncio.Task[None]] = set()
        self._evicting_since = 0.0
        self._dormitory = Dormitory(limit, records.gpu_use if records else lambda pid: {})

    def open(self) -> tuple[str, ...]:
        """Make the folders ready, in a thread. Returns the models whose left-behind workers were ended.

        Raises FolderNotWritable.
        """
        folder = ensure_private(self._folder)
        longest = folder / f"{os.getpid()}-999999" / "w.sock"
        if len(os.fsencode(longest)) >= SOCKET_PATH_BYTES:
            raise FolderNotWritable(folder, "its path is too long for a Unix socket")
        ensure_writable(self._log_folder)
        swept = sweep(folder)
        if self._sessions:
            self._sessions.open()
        return swept

    async def close(self) -> None:
        """End every worker, and leave nothing behind but what somebody else put there."""
        for worker in self.live.values():
            self._see_off(worker, self._sessions.stop_limit_s if self._sessions else 0.0)
        for worker in self._dormitory.workers:
            self._dormitory.end(worker.plan.model.id)
        while self._tending:
            await asyncio.wait(self._tending)
        if self._sessions:
            await self._sessions.close()
        with suppress(OSError):
            self._folder.rmdir()

    @property
    def asleep(self) -> tuple[Attended, ...]:
        """Workers that stay though their models are not loaded."""
        return self._dormitory.workers

    def end_asleep(self, model: str) -> Attended | None:
        """End the worker of a model, where it sleeps or is about to."""
        worker = self.live.get(model)
        if worker and worker.rest == "falling":
            worker.process.stop()
            return worker
        return self._dormitory.end(model)

    def counted(self, machine: Machine) -> Machine:
        """The machine as loads are planned for it: what those asleep hold is free."""
        return self._dormitory.counted(machine)

    def start(self, plan: LoadPlan) -> None:
        """Have a worker for this plan: a new one, or the one that sleeps."""
        sleeper = self._dormitory.waken(plan)
        after = self._dormitory.give_way(plan.placement.device_bytes, self._promised())
        if sleeper:
            self._rouse(sleeper, plan, after)
        else:
            self._begin(plan, after)

    def _begin(self, plan: LoadPlan, after: tuple[Attended, ...]) -> None:
        name = f"{os.getpid()}-{next(_NUMBERS)}"
        engine, folder, model = self._engines[plan.engine], self._folder, plan.model.id
        saved = self._sessions.folder(engine, plan) if self._sessions else None
        endpoint = Endpoint(key=secrets.token_urlsafe(24), socket=folder / name / "w.sock", sessions=saved)
        process = WorkerProcess(
            engine,
            plan,
            endpoint,
            self.log_of(model),
            folder / f"{name}.worker",
            self._load_timeout_s,
            hang_s=self._hang_s,
            confinement=self._confinement,
            converter=self._converter,
        )
        worker = self.live[model] = Attended(process, plan, engine.spec, time.monotonic(), after=after)
        if self._sessions:
            worker.sitting = self._sessions.attend(engine, plan, process.channel, saved)
            worker.not_saved = self._sessions.obstacle(engine, plan)
        began = model not in self.converted
        if not began:
            process.meter.begin_after(plan.asked.info.size_bytes)
            self.converted.discard(model)
        self._begun(worker, anew=began)
        self._spawn(self._tend(worker), f"worker of {model}")

    def _begun(self, worker: Attended, *, anew: bool = True) -> None:
        # Nothing starts while memory comes back, so that what left last has left for this one.
        worker.swapping_since, self._evicting_since = self._evicting_since, 0.0
        self.failed.pop(worker.plan.model.id, None)
        if anew:
            self._observer.load_started(worker.plan.model.id, worker.plan.engine)

    def _rouse(self, worker: Attended, plan: LoadPlan, after: tuple[Attended, ...]) -> None:
        """Have one that sleeps serve again."""
        worker.plan, worker.rest, worker.after = plan, "waking", after
        worker.started, worker.ready_at = time.monotonic(), 0.0
        self.live[plan.model.id] = worker
        self._begun(worker)
        self._spawn(self._wake(worker))

    async def _wake(self, worker: Attended) -> None:
        engine = self._engines[worker.plan.engine]
        assert isinstance(engine, Sleeps)
        try:
            await _all_gone(worker.after)
            async with asyncio.timeout(self._load_timeout_s):
                await engine.wake(asking(worker.process.channel))
        except Exception as error:
            # Engines are plug-ins: whatever goes wrong in one, its model is to be loaded.
            log.warning("%s did not wake, and is loaded anew: %r", worker.plan.model.id, error)
            worker.process.stop()
            return
        if worker.ending is None and not worker.told:
            worker.rest = ""
            self._hand_over(worker)
            if worker.weighing:
                self._hand_on(worker.weighing)
            await self._relieved()

    def stop(self, model: str, reason: Reason) -> None:
        """Have a model's worker go; its end follows."""
        worker = self.live[model]
        if reason == "evicted" and not self._evicting_since:
            self._evicting_since = time.monotonic()
        self._observer.worker_stopping(model, worker.plan.engine, reason)
        if reason == "evicted" and self._may_sleep(worker):
            worker.told, worker.rest = True, "falling"
            self._spawn(self._lay_down(worker))
        else:
            self._see_off(worker, SAVE_LIMIT_S)

    def _may_sleep(self, worker: Attended) -> bool:
        # One that saves its conversations ends, and they are read back.
        if not worker.ready_at or worker.told or worker.sitting:
            return False
        engine = self._engines[worker.plan.engine]
        return self._dormitory.takes(worker, engine, self._promised(but=worker))

    async def _lay_down(self, worker: Attended) -> None:
        model, engine = worker.plan.model.id, self._engines[worker.plan.engine]
        if not await self._dormitory.lay(worker, engine, asking(worker.process.channel)):
            worker.process.stop()
            return
        worker.rest, worker.told = "asleep", False
        del self.live[model]
        self._observer.worker_asleep(model, worker.plan.engine)
        self._tell(Exited(model))

    def _promised(self, but: Attended | None = None) -> Mapping[str, int]:
        """Bytes that plans have given to those who are awake, by device."""
        found: Counter[str] = Counter()
        for worker in self.live.values():
            if worker is not but:
                found.update(worker.plan.placement.device_bytes)
        return found

    def used(self, worker: Attended) -> None:
        """A request to this worker is over: it may have grown by it."""
        worker.used_at = time.monotonic()
        if worker.weighing and worker.weighing.used():
            self._grown(worker.weighing)

    def _grown(self, weighing: Weighing) -> None:
        self._hand_on(weighing)
        self._spawn(self._keep(weighing))

    def log_of(self, model: str) -> WorkerLog:
        """What the workers of a model wrote."""
        return WorkerLog(self._log_folder, model)

    def _see_off(self, worker: Attended, limit_s: float) -> None:
        """Have a worker stop; what it holds of conversations is saved first, for so long at most."""
        # One that sleeps has its weights beside, which is no growth of who serves.
        if not worker.told and not worker.rest and worker.weighing and worker.weighing.grown():
            self._grown(worker.weighing)
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
        await _all_gone(worker.after)
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
                self._hand_over(worker)
                self._spawn(self._weigh(worker))
                await self._relieved()
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

    def _hand_over(self, worker: Attended) -> None:
        """It serves."""
        model, engine = worker.plan.model.id, worker.plan.engine
        worker.ready_at = worker.used_at = time.monotonic()
        self._observer.load_ended(model, engine, worker.ready_at - worker.started, None)
        if worker.swapping_since:
            self._observer.swapped(model, engine, worker.ready_at - worker.swapping_since)
        self._tell(Ready(model))

    def _bury(self, worker: Attended, ending: Ending) -> None:
        model, engine, served = worker.plan.model.id, worker.plan.engine, bool(worker.ready_at)
        worker.ending = ending
        if self._dormitory.gone(worker):
            log.info("the sleeping worker of %s has ended", model)
            worker.gone.set()
            return
        del self.live[model]
        if worker.rest == "waking" and not worker.told:
            self._observer.load_ended(model, engine, time.monotonic() - worker.started, "load_failed")
            self._observer.worker_exited(model, engine, ending.exit_code)
            self._begin(worker.plan, ())
            worker.gone.set()
            return
        if ending.converted and not worker.told:
            # Half of a load: what is left of it is planned now.
            self.converted.add(model)
            self._tell(Exited(model))
            worker.gone.set()
            return
        if not worker.told:
            log.warning("%s", ending.error)
            self.failed[model] = worker
            if len(self.failed) > FAILURES_KEPT:
                del self.failed[next(iter(self.failed))]
        if not served:
            code = "cancelled" if worker.told else ending.error.code if ending.error else "load_failed"
            self._observer.load_ended(model, engine, time.monotonic() - worker.started, code)
        self._observer.worker_exited(model, engine, ending.exit_code)
        if served or worker.told:
            self._tell(Exited(model, None if worker.told else ending.error))
        else:
            self._tell(Failed(model, ending.error or LoadFailed(model, "its process ended")))
        worker.gone.set()

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
        worker = self.live.get(weighing.plan.model.id)
        if worker and worker.weighing is weighing and (weighed := weighing.weighed()):
            self._tell(weighed)

    async def _keep(self, weighing: Weighing) -> None:
        try:
            await asyncio.to_thread(weighing.keep)
        except UmlError as error:
            log.warning("what %s took is not remembered: %s", weighing.plan.model.id, error)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None]:
        """Have something done that this supervisor's end waits for."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tending.add(task)
        task.add_done_callback(self._tending.discard)
        return task


async def _all_gone(workers: Iterable[Attended]) -> None:
    for worker in workers:
        await worker.gone.wait()
