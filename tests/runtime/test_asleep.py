"""Stories of workers that leave a GPU for another, and wait in main memory for their next turn."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.stand_in import SIZE, Bench, Sleeper, flags, machine, model
from tests.waiting import alive, until
from uml.core.errors import Cancelled, DoesNotFit, LoadFailed, LoadSuspended, WorkerDied
from uml.core.machine import Device, Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.planning.budget import CPU_MARGIN_BYTES
from uml.planning.evict import Running, evict
from uml.runtime.observer import Unobserved
from uml.runtime.scheduling.policy import Policy

GIB = 1 << 30
A, B, C = model("a"), model("b"), model("c")
SLEEPY = LoadOptions.parse({"engine": "sleeper"})


class Diary(Unobserved):
    """What happened, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def load_started(self, model: str, engine: str) -> None:
        self.lines.append(f"{model} starts")

    def worker_asleep(self, model: str, engine: str) -> None:
        self.lines.append(f"{model} sleeps")

    def worker_exited(self, model: str, engine: str, exit_code: int | None) -> None:
        self.lines.append(f"{model} ends")


class Office(Bench):
    """A GPU with room for one model, and as much main memory as `spare` says, beside what the machine keeps free."""

    spare = 100 * GIB

    def plan(self, model: Model, *rest: Any) -> LoadPlan:
        """On the GPU; a context of 1,024 takes main memory instead."""
        options, machine, running = rest[:3]
        device = "cpu" if options.ctx == 1024 else "cuda:0"
        free = next(one.free_bytes for one in machine.devices if one.id == device)
        size = 60 * GIB if device == "cpu" else SIZE
        victims = evict(size, free, _on(device, running))
        if victims is None:
            raise DoesNotFit(model.id, size, free)
        return LoadPlan(
            model, options.engine, replace(options, ctx=options.ctx or 512, parallel=2),
            Footprint(size, 0, 0), Placement({device: size}), evict=victims,
        )  # fmt: skip

    def snapshot(self) -> Machine:
        workers = (status for status in self.supervisor.status() if status.device != "cpu")
        awake = sum(SIZE for status in workers if status.state not in ("asleep", "failed"))
        gpu = Device("cuda:0", "cuda", "GPU", SIZE, max(0, SIZE - awake))
        return replace(machine(CPU_MARGIN_BYTES + self.spare), gpus=(gpu,))

    def states(self) -> dict[str, str]:
        return {status.model: status.state for status in self.supervisor.status()}


def _on(device: str, running: Sequence[Running]) -> list[Running]:
    return [one for one in running if one.on(device)]


@asynccontextmanager
async def office(folder: Path, **more: Any) -> AsyncIterator[tuple[Office, Diary]]:
    diary = Diary()
    made = Office(folder, 1, Policy(turn_s=0.0), 20.0, diary, {"sleeper": Sleeper()}, **more)
    async with made.supervisor:
        yield made, diary
    assert not made.run.exists(), "sleepers end with the server"


async def test_who_leaves_a_gpu_for_another_sleeps_and_is_woken(tmp_path: Path) -> None:
    async with office(tmp_path) as (here, diary):
        first = await here.supervisor.load(A, SLEEPY)
        await here.supervisor.load(B, SLEEPY)
        assert here.states() == {"a": "asleep", "b": "ready"}
        assert diary.lines == ["a starts", "b starts", "a sleeps"] or diary.lines == [
            "a starts", "a sleeps", "b starts",
        ]  # fmt: skip
        async with here.supervisor.lease(A):
            assert here.states() == {"a": "ready", "b": "asleep"}
        again = await here.supervisor.load(A)
        assert again.pid == first.pid, "it is the same process"
        assert "a ends" not in diary.lines and diary.lines.count("a starts") == 2


async def test_main_memory_that_a_load_wants_is_given_back_first(tmp_path: Path) -> None:
    async with office(tmp_path) as (here, _):
        pid = (await here.supervisor.load(A, SLEEPY)).pid
        await here.supervisor.load(B, SLEEPY)
        assert here.states()["a"] == "asleep"
        here.spare = 50 * GIB  # another program has come
        with pytest.raises(DoesNotFit):
            await here.supervisor.load(C, replace(SLEEPY, ctx=1024))
        here.spare = 60 * GIB - SIZE // 4  # of what is missing, the sleeper has more
        await here.supervisor.load(C, replace(SLEEPY, ctx=1024))
        assert pid and not alive(pid)
        assert here.states() == {"b": "ready", "c": "ready"}


async def test_nobody_sleeps_where_models_may_take_no_more(tmp_path: Path) -> None:
    async with office(tmp_path, limit=lambda device: SIZE // 2 if device.kind == "cpu" else None) as (here, diary):
        await here.supervisor.load(A, SLEEPY)
        await here.supervisor.load(B, SLEEPY)
        assert here.states() == {"b": "ready"} and "a ends" in diary.lines


@pytest.mark.parametrize("options", [replace(SLEEPY, sleep=False), flags("wakeful", engine="sleeper")])
async def test_sleep_is_for_those_who_may_and_can(tmp_path: Path, options: LoadOptions) -> None:
    async with office(tmp_path) as (here, _):
        await here.supervisor.load(A, options)
        await here.supervisor.load(B, SLEEPY)
        assert here.states() == {"b": "ready"}


async def test_one_that_will_not_sleep_ends(tmp_path: Path) -> None:
    async with office(tmp_path) as (here, diary):
        await here.supervisor.load(A, flags("no-sleep", engine="sleeper"))
        await here.supervisor.load(B, SLEEPY)
        assert here.states() == {"b": "ready"} and "a ends" in diary.lines


async def test_one_that_does_not_wake_is_loaded_anew(tmp_path: Path) -> None:
    async with office(tmp_path) as (here, _):
        first = await here.supervisor.load(A, flags("no-wake", engine="sleeper"))
        await here.supervisor.load(B, SLEEPY)
        assert here.states()["a"] == "asleep"
        again = await here.supervisor.load(A, flags("no-wake", engine="sleeper"))
        assert again.state == "ready" and again.pid != first.pid
        assert first.pid and not alive(first.pid)


async def test_one_that_dies_asleep_is_loaded_anew(tmp_path: Path) -> None:
    async with office(tmp_path) as (here, _):
        pid = (await here.supervisor.load(A, SLEEPY)).pid
        await here.supervisor.load(B, SLEEPY)
        assert pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: here.states() == {"b": "ready"})
        assert (await here.supervisor.load(A, SLEEPY)).state == "ready"
        assert here.supervisor.status()[0].error is None, "nobody was harmed"


async def test_other_options_want_another_worker(tmp_path: Path) -> None:
    async with office(tmp_path) as (here, _):
        pid = (await here.supervisor.load(A, SLEEPY)).pid
        await here.supervisor.load(B, SLEEPY)
        other = await here.supervisor.load(A, replace(SLEEPY, ctx=2048))
        assert other.context_length == 2048 and pid and not alive(pid)


async def test_an_unload_ends_sleepers_too(tmp_path: Path) -> None:
    async with office(tmp_path) as (here, _):
        pid = (await here.supervisor.load(A, SLEEPY)).pid
        await here.supervisor.load(B, SLEEPY)
        assert await here.supervisor.unload(["a"]) == ("a",)
        assert pid and not alive(pid) and here.states() == {"b": "ready"}
        await here.supervisor.load(C, SLEEPY)
        assert sorted(await here.supervisor.unload()) == ["b", "c"] and here.states() == {}


async def test_two_that_alternate_start_once(tmp_path: Path) -> None:
    async with office(tmp_path) as (here, diary):

        async def asks(wanted: Model) -> None:
            for _ in range(10):
                async with here.supervisor.lease(wanted, SLEEPY):
                    assert here.states()[wanted.id] == "ready"

        await asyncio.gather(asks(A), asks(B))
        pids = {status.pid for status in here.supervisor.status()}
        assert len(pids) == 2 and not any(line.endswith("ends") for line in diary.lines)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_everybody_is_served_and_nobody_left_behind(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    seen: set[int] = set()
    async with office(tmp_path) as (here, _):

        async def asks() -> None:
            with suppress(WorkerDied, LoadFailed, LoadSuspended, Cancelled):
                async with here.supervisor.lease(draw.choice((A, B, C)), SLEEPY):
                    await asyncio.sleep(0.02)  # an answer

        def kill() -> None:
            pids = [status.pid for status in here.supervisor.status() if status.pid]
            if pids:
                with suppress(ProcessLookupError):
                    os.kill(draw.choice(pids), signal.SIGKILL)

        tasks: list[asyncio.Task[Any]] = []
        for _ in range(30):
            act = draw.random()
            if act < 0.7:
                tasks.append(asyncio.create_task(asks()))
            elif act < 0.8:
                kill()
            elif act < 0.9:
                tasks.append(asyncio.create_task(here.supervisor.unload([draw.choice("abc")])))
            else:
                here.spare = draw.choice((0, 100)) * GIB
            seen |= {status.pid for status in here.supervisor.status() if status.pid}
            await asyncio.sleep(draw.choice((0.0, 0.05, 0.3)))  # acts come at any moment of the others
        await asyncio.gather(*tasks)
        here.spare = 100 * GIB
        for one in (A, B, C):
            assert (await here.supervisor.load(one, SLEEPY)).state == "ready"
            seen |= {status.pid for status in here.supervisor.status() if status.pid}
    assert not [pid for pid in seen if alive(pid)]
