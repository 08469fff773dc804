"""A worker that misbehaves as no engine of ours does, and what a supervisor needs around it.

Run as a program it serves `/health` on the socket that standard input names, and does what its flags say.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from uml.core.engine import Ask, Availability, Endpoint, Engine, EngineSpec, Launch, Precaution
from uml.core.errors import BadOption, DoesNotFit, EngineError, OutOfMemory, UmlError
from uml.core.machine import Device, Machine
from uml.core.model import Format, Model, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.core.plan import Conversion, Footprint, LoadPlan, Placement
from uml.engines.fake import Fake
from uml.planning.batches import with_batches
from uml.planning.evict import Running, evict
from uml.runtime.scheduling.policy import Policy
from uml.runtime.supervisor import Observer, Supervisor

SIZE = 1 << 20
LARGE, IMPOSSIBLE = 4096, 8192
"""Contexts that take three times the memory, and that no model has."""


class StandIn:
    """The engine of these workers; its flags are `extra_flags`."""

    spec = EngineSpec(
        name="stand-in",
        title="A worker that misbehaves",
        formats=frozenset(Format),
        roles=frozenset(Role),
        devices=frozenset({"cpu"}),
        split="whole",
        served=True,
        options=frozenset(),
    )

    def available(self) -> Availability:
        return Availability(True)

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        flags = plan.options.extra_flags
        if "no-launch" in flags:
            raise BadOption("extra_flags", "no-launch", "something else")
        if "broken-launch" in flags:
            raise ZeroDivisionError("an engine with a bug")
        program = "/nowhere/at/all" if "no-program" in flags else sys.executable
        line = json.dumps({"socket": str(endpoint.socket), "flags": flags}).encode() + b"\n"
        return Launch((program, __file__), {"STAND_IN": "yes"}, line)

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        return OutOfMemory(plan.model.id, "cpu") if "cannot allocate" in log else None


class Fragile(StandIn):
    """The same with what may help after an abort. With the flag `aborts` its loads do, unless repack is off."""

    spec = replace(
        StandIn.spec,
        name="fragile",
        options=frozenset({"repack", "flash_attention"}),
        precautions=(
            Precaution("repack", False, "that is how it lives"),
            Precaution("flash_attention", "off", "that may help"),
        ),
    )

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        words = plan.options.extra_flags
        if "aborts" in words and plan.options.repack:
            words = (*words, f"kill={signal.SIGABRT.value}")
        return super().launch(replace(plan, options=replace(plan.options, extra_flags=words)), endpoint)


class Sleeper(StandIn):
    """The same where its workers can sleep: they answer `/sleep` and `/wake`."""

    spec = replace(StandIn.spec, name="sleeper")

    def can_sleep(self, plan: LoadPlan) -> bool:
        return "wakeful" not in plan.options.extra_flags

    async def sleep(self, ask: Ask) -> None:
        await self._told(ask, "/sleep")

    async def wake(self, ask: Ask) -> None:
        await self._told(ask, "/wake")

    async def _told(self, ask: Ask, path: str) -> None:
        status, _ = await ask("POST", path, b"")
        if status != 200:
            raise EngineError("sleeper", f"{path} gave {status}")


def model(name: str = "demo") -> Model:
    return Model(name, ModelInfo(Path(f"/models/{name}.gguf"), Format.GGUF, Role.TEXT, 1.0, "", SIZE))


DEMO = model()


def flags(*words: str, engine: str = "fake") -> LoadOptions:
    return LoadOptions.parse({"engine": engine, "extra_flags": list(words)})


def machine(free_bytes: int) -> Machine:
    """One with memory only."""
    memory = Device("cpu", "cpu", "memory", 1 << 40, free_bytes)
    return Machine("Linux", "x86_64", "test", 2, 2, frozenset(), memory)


def plan(
    model: Model,
    options: LoadOptions,
    machine: Machine,
    running: Sequence[Running],
    wants: Sequence[str] = (),
) -> LoadPlan:
    """Every model takes SIZE bytes, three times as many with a LARGE context; `broken` breaks the planner."""
    if model.id == "broken":
        raise ZeroDivisionError("a planner with a bug")
    if options.ctx >= IMPOSSIBLE:
        raise BadOption("ctx", options.ctx, f"0 to {LARGE}")
    size = SIZE * (3 if options.ctx >= LARGE else 1)
    victims = evict(size, machine.memory.free_bytes, running)
    if victims is None:
        raise DoesNotFit(model.id, size, machine.memory.free_bytes)
    return LoadPlan(
        model=model,
        engine="fake" if options.engine == "auto" else options.engine,
        options=with_batches(
            model.info, options, replace(options, ctx=options.ctx or 512, parallel=options.parallel or 2)
        ),
        footprint=Footprint(size, 0, 0),
        placement=Placement({"cpu": size}),
        evict=victims,
    )


class Bench:
    """A supervisor on a machine with room for `room_for` models. One called `old...` is converted first."""

    def __init__(
        self,
        folder: Path,
        room_for: int,
        policy: Policy,
        stall_s: float,
        observer: Observer | None,
        engines: Mapping[str, Engine],
        **more: Any,
    ) -> None:
        self.room_for = room_for
        self.measured = 0
        self.run = folder / "run"
        self.logs = folder / "logs"
        self.new = folder / "new.gguf"
        self.supervisor = Supervisor(
            engines={"fake": Fake(), "stand-in": StandIn(), **engines},
            planner=self.plan,
            defaults=LoadOptions(),
            runtime_folder=self.run,
            log_folder=self.logs,
            snapshot=self.snapshot,
            load_timeout_s=stall_s,
            policy=policy,
            observer=observer,
            **more,
        )

    def plan(self, model: Model, *rest: Any) -> LoadPlan:
        made = plan(model, *rest)
        if not model.id.startswith("old"):
            return made
        return replace(made, conversion=Conversion(model, self.new, needed=not self.new.exists()))

    def snapshot(self) -> Machine:
        self.measured += 1
        used = len(list(self.run.glob("*.worker"))) * SIZE
        return machine(max(0, self.room_for * SIZE - used))

    @property
    def pid(self) -> int:
        """The process of the only worker."""
        (worker,) = [status for status in self.supervisor.status() if status.pid]
        assert worker.pid is not None
        return worker.pid


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    room_for: int = 4,
    policy: Policy | None = None,
    stall_s: float = 20.0,
    observer: Observer | None = None,
    engines: Mapping[str, Engine] | None = None,
    **more: Any,
) -> AsyncIterator[Bench]:
    made = Bench(folder, room_for, policy or Policy(), stall_s, observer, engines or {}, **more)
    async with made.supervisor:
        yield made
    assert not made.run.exists()


# --- the child's side ---------------------------------------------------------------------------


def main() -> None:
    order = json.loads(sys.stdin.readline())
    words: list[str] = order["flags"]
    value: Callable[[str], str | None] = lambda name: next(  # noqa: E731
        (word.partition("=")[2] for word in words if word.startswith(name + "=")), None
    )
    if "ignore-stop" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    if "environment" in words:
        print("\n".join(f"{name}={text}" for name, text in os.environ.items()), flush=True)
    if "grandchild" in words:
        print("grandchild", subprocess.Popen(["sleep", "60"]).pid, flush=True)
    if said := value("say"):
        print(said, flush=True)
    if code := value("exit"):
        os._exit(int(code))
    if raised := value("kill"):
        os.kill(os.getpid(), int(raised))
    if "hang" in words:
        time.sleep(60)
    if seconds := value("chatter"):
        for _ in range(int(float(seconds) * 20)):
            print("still loading", flush=True)
            time.sleep(0.05)  # a load that takes its time, and says so
    refused = tuple(f"/{word.partition('-')[2]}".encode() for word in words if word.startswith("no-"))
    serve(order["socket"], refused, deaf="deaf" in words, chatty="chatty" in words)


def serve(path: str, refused: tuple[bytes, ...], deaf: bool, chatty: bool) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        kept: list[Any] = []
        while True:
            connection, _ = listener.accept()
            if deaf:
                kept.append(connection)
                continue
            # Who asked may wait no longer.
            with connection, suppress(OSError):
                request = connection.recv(1 << 16)
                if chatty:
                    print("x" * (9 << 20), flush=True)
                if b"/break" in request:
                    continue
                status = b"500 No" if any(word in request for word in refused) else b"200 OK"
                connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)


if __name__ == "__main__":
    main()
