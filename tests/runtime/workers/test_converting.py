"""A model that is converted before its worker starts: seen, stopped, failed and stuck."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.stand_in import SIZE, bench, flags, model
from tests.waiting import until
from uml.core.errors import Cancelled, ConversionFailed, LoadSuspended, LoadTimeout, UmlError
from uml.core.plan import LoadPlan
from uml.runtime.conversions.workshop import Making
from uml.runtime.scheduling.policy import Policy

OLD = model("old")


class Work:
    """A converter that is half done until it is let go on, or told to stop."""

    def __init__(self, error: ConversionFailed | None = None) -> None:
        self.calls = 0
        self.stopped = 0
        self.go_on = threading.Event()
        self.error = error

    def __call__(self, plan: LoadPlan, tell: Callable[[Making], None], cancelled: Callable[[], bool]) -> None:
        assert plan.conversion is not None
        self.calls += 1
        tell(Making("packing", 50))
        while not self.go_on.wait(0.01):
            if cancelled():
                self.stopped += 1
                raise Cancelled("it was stopped")
        if self.error:
            raise self.error
        tell(Making("done", 100))


async def test_it_is_seen_where_loads_are_seen(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, converter=work) as office:
        seen = []
        async for step in office.supervisor.load_progress(OLD, flags()):
            seen.append(step)
            if step.stage == "converting":
                (status,) = office.supervisor.status()
                assert (status.state, status.pid) == ("converting", None)
                work.go_on.set()
        converting = [step for step in seen if step.stage == "converting"]
        assert converting and seen[-1].stage == "ready"
        # Half of the conversion, which is half of the way.
        assert converting[-1].total_bytes == 2 * SIZE and 20 <= converting[-1].percent <= 50
        percents = [step.percent for step in seen]
        assert percents == sorted(percents)


async def test_a_worker_that_comes_back_asks_again(tmp_path: Path) -> None:
    work = Work()
    work.go_on.set()
    async with bench(tmp_path, converter=work) as office:
        await office.supervisor.load(OLD, flags())
        await office.supervisor.unload()
        async with office.supervisor.lease(OLD, flags()):
            assert work.calls == 2
        await office.supervisor.load(model("new"), flags())
        assert work.calls == 2


async def test_nobody_waits_any_more_and_it_ends(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, converter=work) as office:
        load = asyncio.ensure_future(office.supervisor.load(OLD, flags()))
        await until(lambda: work.calls)
        load.cancel()
        await until(lambda: work.stopped)
        await until(lambda: not office.supervisor.status())
        async with asyncio.timeout(10):
            again = asyncio.ensure_future(office.supervisor.load(OLD, flags()))
            await until(lambda: work.calls == 2)
            assert await office.supervisor.unload([OLD.id]) == (OLD.id,)
            with pytest.raises(Cancelled):
                await again


async def test_a_failure_is_told_and_not_tried_for_every_request(tmp_path: Path) -> None:
    work = Work(ConversionFailed("old", "the disk is full"))
    work.go_on.set()
    async with bench(tmp_path, converter=work, policy=Policy(retry_s=60.0)) as office:
        with pytest.raises(ConversionFailed, match="the disk is full"):
            async with office.supervisor.lease(OLD, flags()):
                pass
        with pytest.raises(LoadSuspended, match="the disk is full"):
            async with office.supervisor.lease(OLD, flags()):
                pass
        assert work.calls == 1


async def test_one_that_stands_still_is_given_up(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, converter=work, stall_s=0.6) as office:
        began = time.monotonic()
        with pytest.raises(LoadTimeout, match="conversion to GGUF stood still"):
            await office.supervisor.load(OLD, flags())
        assert work.stopped == 1 and time.monotonic() - began < 10


async def test_the_end_of_the_server_is_the_end_of_it(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, converter=work) as office:
        load = asyncio.ensure_future(office.supervisor.load(OLD, flags()))
        await until(lambda: work.calls)
    assert work.stopped == 1
    with pytest.raises(UmlError):
        await load
