"""One worker process, from birth to death."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, cast

from uml.config.folders import FULL
from uml.core.engine import Endpoint, Engine, Launch
from uml.core.errors import LoadFailed, LoadTimeout, UmlError, WorkerHung
from uml.core.plan import LoadPlan
from uml.engines.handover import progress_in
from uml.runtime.sandbox.confinement import Confinement, Held
from uml.runtime.workers.channel import Channel
from uml.runtime.workers.converting import Converter, convert_first
from uml.runtime.workers.ending import Ending, Shortage, explain, oom_kills
from uml.runtime.workers.logs import WorkerLog
from uml.runtime.workers.orphans import Record, birth
from uml.runtime.workers.progress import Meter, look
from uml.runtime.workers.watch import HANG_S, Look, Patience, Watch, condition, observe

log = logging.getLogger(__name__)

Future = asyncio.Future[Any]
State = Literal["converting", "starting", "loading", "ready", "stopping", "ended"]

FIRST_LOOK_S: Final = 0.005
LAST_LOOK_S: Final = 0.1
"""How often a loading worker is asked whether it is ready: often at first, for the small models."""
LAST_BYTES: Final = 4096
"""Of a log, that are read at each look at a load, for what the worker itself says of it."""
ANSWER_LIMIT_S: Final = 2.0
"""A worker that is asked and too busy to answer is asked again after this."""
STOP_LIMIT_S: Final = 3.0
BEAT_S: Final = 1.0
"""How often a worker is looked at."""
HEALTH_S: Final = 10.0
"""How often one that serves is asked for its health without any doubt."""
STOPPED_LOAD_S: Final = 10.0
"""How long a load may stand stopped by a signal."""


class WorkerProcess:
    """Answers from the task that is in `run`, the only writer of `state`.

    | state      | `stop()`             | process exits          | health says 200 | no progress         |
    |------------|----------------------|------------------------|-----------------|---------------------|
    | converting | ended                | ended                  | -               | ended, LoadTimeout  |
    | starting   | stopping, then ended | ended, LoadFailed      | -               | -                   |
    | loading    | stopping, then ended | ended, LoadFailed      | ready           | ended, LoadTimeout  |
    | ready      | stopping, then ended | ended, WorkerDied      | asked at times  | ended, WorkerHung   |
    | stopping   | nothing              | ended, no error        | not asked       | -                   |
    | ended      | nothing              | -                      | -               | -                   |

    Stopping closes the worker's standard input and sends SIGTERM; what is left of its group after
    `stop_limit_s` gets SIGKILL. One that hangs gets it at once, and so does one whose `run` is cancelled.
    The worker has a folder of its own, beside its record and with its name, which goes with it.
    A plan whose model is yet to be made is for that alone: `run` returns when it is, and the load is planned anew.
    hang_s: see `watch.Patience`. confinement: its sandbox and limits; without it, it has none. converter: sees to
    it that what stands in for the model is there.
    """

    def __init__(
        self,
        engine: Engine,
        plan: LoadPlan,
        endpoint: Endpoint,
        worker_log: WorkerLog,
        record: Path,
        stall_limit_s: float,
        stop_limit_s: float = STOP_LIMIT_S,
        hang_s: float = HANG_S,
        confinement: Confinement | None = None,
        converter: Converter | None = None,
    ) -> None:
        self.plan = plan
        self.state: State = "starting"
        self.pid: int | None = None
        self.channel = Channel(endpoint)
        self.log = worker_log
        self._needed = plan.conversion is not None and plan.conversion.needed
        prelude = plan.asked.info.size_bytes if self._needed else 0
        self.meter = Meter(plan.model.info.size_bytes, time.monotonic(), prelude)
        self.ready = asyncio.Event()
        self._engine = engine
        self._endpoint = endpoint
        self._record = record
        self._stall_limit_s = stall_limit_s
        self._stop_limit_s = stop_limit_s
        self._hang_s = hang_s
        self._hurry = False
        self._confinement = confinement
        self._converter = converter if plan.conversion else None
        self._held: Held | None = None
        self._making: Held | None = None
        self._own = record.with_suffix("")
        self._told = asyncio.Event()
        self._shortage = Shortage(oom_kills)
        self._transport: asyncio.SubprocessTransport | None = None

    def stop(self) -> None:
        """Ask it to end; `run` returns when it has. Safe to call at any time, and again."""
        self._told.set()

    def hurry(self) -> None:
        """Somebody waits for it to go once its requests are done: be less patient with one that hangs."""
        self._hurry = True

    def look(self) -> Meter:
        """How far the load is, looked at now."""
        if self.pid is not None and self.state == "loading" and (sample := look(self.pid)):
            self.meter.take(sample, self.log.size(), time.monotonic())
            self.meter.told(progress_in(self.log.tail(LAST_BYTES)))
        return self.meter

    async def run(self) -> Ending:
        """Start it, watch it, and see it off: the whole life. Returns when nothing of it is left."""
        try:
            if self._converter:
                self.state = "converting" if self._needed else "starting"
                await convert_first(
                    self.plan, self._converter, self.meter, self._told, self._stall_limit_s, self._confine
                )
                if self._needed:
                    return Ending(None, converted=True)
                self.state = "starting"
            launch = self._engine.launch(self.plan, self._endpoint)
            exited = await self._spawn(launch)
            return await self._live(launch, exited)
        except UmlError as error:
            return Ending(None, error)
        except OSError as error:
            # Its log is in the data folder; of a write the system tells no path.
            where = f"; make room on the disk of {self.log.path.parent}" if error.errno in FULL else ""
            reason = f"the engine {self._engine.spec.name} cannot be started: {error}{where}"
            return Ending(None, LoadFailed(self.plan.model.id, reason))
        finally:
            self._clear()

    def _confine(self, launch: Launch) -> Launch:
        """Keep a process in that makes what stands in for the model, whose files are all it may read. In a thread."""
        assert self.plan.conversion is not None
        if self._confinement is None:
            return launch
        self._own.mkdir(mode=0o700, exist_ok=True)
        plan = replace(self.plan, model=self.plan.conversion.source, conversion=None)
        self._making = self._confinement.hold(plan, launch, f"{self._own.name}-making", self._own)
        return self._making.launch

    async def _live(self, launch: Launch, exited: Future) -> Ending:
        told: Future = asyncio.ensure_future(self._told.wait())
        watch: Future = asyncio.ensure_future(self._until_ready(launch.health))
        served = False
        try:
            await asyncio.wait({told, watch, exited}, return_when=asyncio.FIRST_COMPLETED)
            stalled: UmlError | None = watch.result() if watch.done() else None
            if watch.done() and not (stalled or told.done() or exited.done()):
                served = True
                self.state = "ready"
                self.ready.set()
                watch = asyncio.ensure_future(self._until_hung(launch.health))
                await asyncio.wait({told, watch, exited}, return_when=asyncio.FIRST_COMPLETED)
                stalled = watch.result() if watch.done() else None
            # One that ends in the same breath as it is told to is not asked why.
            alone = exited.done() and not told.done()
            self.state = "stopping"
            code = await self._end(exited, self._stop_limit_s if stalled is None else 0.0)
            return Ending(code, self._why(code, served) if alone else stalled)
        finally:
            told.cancel()
            watch.cancel()

    def _why(self, code: int, served: bool) -> UmlError:
        group = self._held.group if self._held else None
        starved = group.oom_kills() > 0 if group else self._shortage.felt()
        limit = self._confinement.limits.memory_bytes if self._confinement else None
        return explain(
            self.plan, self._engine, self.log.tail(), code, served=served, starved=starved, limit_bytes=limit
        )

    async def _spawn(self, launch: Launch) -> Future:
        """Start the process. The future is its exit code. Raises OSError."""
        loop = asyncio.get_running_loop()
        exited: Future = loop.create_future()
        if self._endpoint.socket is not None:
            # One that a killed server of our number left behind would be an address in use.
            self._endpoint.socket.unlink(missing_ok=True)
        self._own.mkdir(mode=0o700, exist_ok=True)
        if self._confinement is not None:
            self._held = self._confinement.hold(self.plan, launch, self._own.name, self._own)
            launch = self._held.launch
        output = self.log.begin(_heading(self.plan))
        try:
            # Not create_subprocess_exec: its wait() also waits for grandchildren that hold the pipe.
            transport, _ = await loop.subprocess_exec(
                lambda: _ExitNotice(exited),
                *launch.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **launch.environment},
                start_new_session=True,
            )
        finally:
            os.close(output)
        self._transport = transport
        self.pid = transport.get_pid()
        self.state = "loading"
        server = os.getpid()
        group = str(self._held.group.path) if self._held and self._held.group else ""
        record = Record(self.pid, birth(self.pid), server, birth(server), self.plan.model.id, group)
        record.write(self._record)
        stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        stdin.write(launch.stdin)
        return exited

    async def _until_ready(self, health: str) -> LoadTimeout | None:
        """Return when the worker serves, or with an error when it stands still."""
        pause, stopped_at, next_look = FIRST_LOOK_S, None, 0.0
        while not await self._answers(health):
            now = time.monotonic()
            if (quiet_s := self.look().quiet_s(now)) > self._stall_limit_s:
                return self._stalled(
                    f"no sign of progress for {quiet_s:.0f} s (no reading, no memory, no work, "
                    "no log line); a larger load_timeout_s waits longer",
                    quiet_s,
                )
            if now >= next_look and self.pid is not None:
                next_look = now + BEAT_S
                stopped_at = (stopped_at or now) if condition(self.pid) == "stopped" else None
            if stopped_at is not None and now - stopped_at >= min(STOPPED_LOAD_S, self._stall_limit_s):
                return self._stalled("a signal (SIGSTOP) had stopped its process", now - stopped_at)
            await asyncio.sleep(pause)
            pause = min(LAST_LOOK_S, pause * 1.1)
        return None

    def _stalled(self, reason: str, quiet_s: float) -> LoadTimeout:
        return LoadTimeout(self.plan.model.id, reason, quiet_s=round(quiet_s, 1), bytes=self.meter.bytes)

    async def _until_hung(self, health: str) -> WorkerHung:
        """Look after a worker that serves; return when it hangs."""
        watch, asked = Watch(time.monotonic()), time.monotonic()
        gpu = self.plan.placement.device != "cpu"
        while True:
            await asyncio.sleep(BEAT_S)
            self._bound_log()
            self._shortage.beat()
            now = time.monotonic()
            answers: bool | None = None
            if now - asked >= HEALTH_S or watch.doubts(now) or watch.deaf:
                asked = now
                # Its answer must not pass for one of those that are owed: it is over before the look.
                answers = await self._answers(health)
            watch.take(self._observe(answers))
            patience = Patience.of(self._hang_s, gpu=gpu, hurry=self._hurry)
            if reason := watch.hang(patience, time.monotonic()):
                return WorkerHung(self.plan.model.id, reason, reason="hung")

    def _observe(self, answers: bool | None) -> Look:
        assert self.pid is not None
        return observe(self.pid, self.channel.awaited, self.channel.heard, self.log.size(), answers)

    def _bound_log(self) -> None:
        try:
            self.log.bound()
        except OSError as error:
            log.warning("the log of %s cannot be kept small: %s", self.plan.model.id, error)

    async def _answers(self, health: str) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(ANSWER_LIMIT_S, self._stall_limit_s / 2)):
                return await self.channel.health(health) == 200
        return False

    async def _end(self, exited: Future, limit_s: float) -> int:
        """The stop ladder; the first rungs do no harm to a process that is gone. limit_s: 0 for its last rung only."""
        assert self._transport is not None
        assert self.pid is not None
        self.channel.close()
        if limit_s and not exited.done():
            if stdin := self._transport.get_pipe_transport(0):
                stdin.close()
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
                os.kill(self.pid, signal.SIGCONT)  # a stopped one would not hear the first
            await asyncio.wait({exited}, timeout=limit_s)
            if not exited.done():
                log.warning("the worker of %s did not stop in %g s and is killed", self.plan.model.id, limit_s)
        self._kill_group()
        code: int = await exited
        return code

    def _kill_group(self) -> None:
        # Also after a clean exit: children of the worker may hold the GPU. The number of a group
        # is not given out again while one of it lives, and for long after.
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _clear(self) -> None:
        """Leave nothing behind, whichever way `run` ended."""
        self.state = "ended"
        if self._transport is not None and self._transport.get_returncode() is None:
            self._kill_group()
        self.channel.close()
        if self._transport is not None:
            self._transport.close()
        for held in (self._held, self._making):
            if held is not None and held.group is not None:
                held.group.remove()
        shutil.rmtree(self._own, ignore_errors=True)
        # The record goes last: what is left without it, nobody would sweep.
        for path in (self._endpoint.socket, self._record):
            if path is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def _heading(plan: LoadPlan) -> str:
    options = plan.options
    return (
        f"{plan.engine} loads {plan.model.info.path}: ctx {options.ctx} for each of {options.parallel} requests, "
        f"{options.threads} threads, on {plan.placement.device}"
    )


class _ExitNotice(asyncio.SubprocessProtocol):
    """Notices the end of a process, whoever still holds its pipes."""

    def __init__(self, exited: Future) -> None:
        self._exited = exited
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process runs."""
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def process_exited(self) -> None:
        """It has ended: its exit code, or the signal as a negative number, is the future's result."""
        code = self._transport.get_returncode() if self._transport else None
        if not self._exited.done():
            self._exited.set_result(-signal.SIGKILL if code is None else code)
