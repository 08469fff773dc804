"""Stories of stays, turns and failures with real worker processes and a real clock."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.stand_in import DEMO, IMPOSSIBLE, LARGE, SIZE, Bench, Fragile, bench, flags, model
from tests.waiting import alive, until
from uml.core.errors import BadFile, BadOption, DoesNotFit, LoadFailed, LoadSuspended, OutOfMemory, Quarantined
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.runtime.observer import Unobserved
from uml.runtime.scheduling.policy import Policy

CRASH = flags("crash_on_load=1")


def there(office: Bench, *names: str) -> bool:
    return sorted(status.model for status in office.supervisor.status() if status.state == "ready") == sorted(names)


async def test_an_idle_model_is_unloaded_when_its_time_is_over(tmp_path: Path) -> None:
    async with bench(tmp_path, policy=Policy(idle_unload_s=0.4)) as office:
        status = await office.supervisor.load(DEMO)
        ready_s = time.monotonic()
        assert status.unloads_in_s is None, "not while somebody waits for it"
        (status,) = office.supervisor.status()
        assert status.unloads_in_s is not None
        assert status.unloads_in_s <= 0.4
        await until(lambda: not office.supervisor.status())
        assert time.monotonic() - ready_s > 0.3
        assert office.supervisor.status() == (), "it has not failed"


async def test_a_request_may_be_the_last_one(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        async with office.supervisor.lease(DEMO, keep_alive_s=0.0):
            pid = office.pid
        await until(lambda: not alive(pid))


async def test_a_pinned_model_comes_back_after_a_death_that_nobody_saw(tmp_path: Path) -> None:
    async with bench(tmp_path, policy=Policy(idle_unload_s=0.2)) as office:
        assert (await office.supervisor.load(DEMO, pin=True)).kept == "pinned"
        os.kill(first := office.pid, signal.SIGKILL)
        await until(lambda: there(office, "demo") and office.pid != first)
        assert office.supervisor.unpin(DEMO)
        assert not office.supervisor.unpin(DEMO)
        await until(lambda: not office.supervisor.status())


async def test_preloaded_models_load_at_the_same_time_as_far_as_memory_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(tmp_path, room_for=2) as office:
        with caplog.at_level(logging.WARNING):
            for name in ("one", "two", "three"):
                office.supervisor.keep(model(name), "preloaded")
        assert [status.state for status in office.supervisor.status()] == ["starting", "starting"]
        assert "three is not loaded, though it is to be kept: three needs" in caplog.text
        await until(lambda: there(office, "one", "two"))
        await office.supervisor.unload(["one"])
        await until(lambda: there(office, "three", "two"))


async def test_unloading_all_lets_go_of_those_too_that_wait_for_memory(tmp_path: Path) -> None:
    async with bench(tmp_path, room_for=1) as office:
        for name in ("one", "two"):
            office.supervisor.keep(model(name), "pinned")
        assert (office.supervisor.kept("two"), office.supervisor.asked("two")) == ("pinned", None)
        assert await office.supervisor.unload() == ("one",)
        assert office.supervisor.kept("two") == ""
        assert (await office.supervisor.load(model("three"))).state == "ready"
        assert [status.model for status in office.supervisor.status()] == ["three"]


async def test_a_load_that_failed_is_not_tried_by_every_request(tmp_path: Path) -> None:
    looked_at = []

    def fresh(found: Model) -> Model:
        looked_at.append(found.id)
        return found

    async with bench(tmp_path, fresh=fresh, policy=Policy(retry_s=30)) as office:
        with pytest.raises(LoadFailed, match="SIGABRT"):
            await office.supervisor.load(DEMO, CRASH)
        for _ in range(3):
            with pytest.raises(LoadSuspended, match=r"tried again in (2\d|30) s") as caught:
                async with office.supervisor.lease(DEMO, CRASH):
                    raise AssertionError("it loaded")
        assert caught.value.details["cause"] == "load_failed"
        (status,) = office.supervisor.status()
        assert status.retry_in_s is not None
        assert 20 < status.retry_in_s <= 30
        assert looked_at == ["demo"] * 3
        with pytest.raises(LoadFailed, match="SIGABRT"):
            await office.supervisor.load(DEMO, CRASH)


async def test_a_file_that_has_changed_is_tried_at_once_and_one_that_has_gone_is_told(tmp_path: Path) -> None:
    changed = replace(DEMO, created=1_700_000_000)
    found: list[Model | Exception] = [changed, BadFile(Path("/models/demo.gguf"), "it is gone")]

    def fresh(_: Model) -> Model:
        answer = found.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with bench(tmp_path, fresh=fresh) as office:
        with pytest.raises(LoadFailed):
            await office.supervisor.load(DEMO, CRASH)
        with pytest.raises(LoadFailed, match="SIGABRT"):
            async with office.supervisor.lease(DEMO, CRASH):
                raise AssertionError("it loaded")
        with pytest.raises(BadFile):
            async with office.supervisor.lease(DEMO, CRASH):
                raise AssertionError("it loaded")


async def test_after_a_number_of_deaths_only_a_person_brings_it_back(tmp_path: Path) -> None:
    async with bench(tmp_path, policy=Policy(deaths=2)) as office:
        for _ in range(2):
            async with office.supervisor.lease(DEMO):
                os.kill(office.pid, signal.SIGKILL)
                await until(lambda: not any(status.pid for status in office.supervisor.status()))
        with pytest.raises(Quarantined, match="has died 2 times"):
            async with office.supervisor.lease(DEMO):
                raise AssertionError("it loaded")
        (status,) = office.supervisor.status()
        assert status.retry_in_s is None
        assert status.error
        assert status.error["code"] == "quarantined", "no word of a next request that would start it"
        assert (await office.supervisor.load(DEMO)).state == "ready"


async def test_a_load_that_runs_out_of_memory_is_tried_with_less(tmp_path: Path) -> None:
    wanted = LoadOptions.parse(
        {"engine": "fake", "ctx": 2048, "degrade": "context", "extra_flags": ["oom_above_ctx=600"]}
    )
    async with bench(tmp_path) as office:
        async with office.supervisor.lease(DEMO, wanted) as lease:
            assert lease.plan.options.ctx == 512
        (status,) = office.supervisor.status()
        assert status.warnings == (
            "memory ran out in the load: ctx is 1024 in place of 2048",
            "memory ran out in the load: ctx is 512 in place of 1024",
        )
        with pytest.raises(OutOfMemory):
            await office.supervisor.load(model("other"), replace(wanted, degrade="none"))


FRAGILE = {"fragile": Fragile()}


async def test_a_load_that_aborts_is_tried_with_the_next_safer_setting(tmp_path: Path) -> None:
    async with bench(tmp_path, engines=FRAGILE) as office:
        async with office.supervisor.lease(DEMO, flags("aborts", engine="fragile")) as lease:
            assert lease.plan.options.repack is False
            assert lease.plan.options.flash_attention == "auto", "one at a time"
        (status,) = office.supervisor.status()
        assert status.warnings == ("its worker aborted: repack is false from then on, for that is how it lives",)
        with pytest.raises(LoadFailed, match="SIGKILL"):
            await office.supervisor.load(model("killed"), flags(f"kill={signal.SIGKILL}", engine="fragile"))


async def test_a_worker_that_aborts_in_use_comes_back_with_the_next_safer_setting(tmp_path: Path) -> None:
    async with bench(tmp_path, engines=FRAGILE) as office:
        for repack, attention in ((True, "auto"), (False, "auto"), (False, "off"), (False, "off")):
            async with office.supervisor.lease(DEMO, flags(engine="fragile")) as lease:
                options = lease.plan.options
            assert (options.repack, options.flash_attention) == (repack, attention)
            os.kill(office.pid, signal.SIGSEGV)
            await until(lambda: not any(status.pid for status in office.supervisor.status()))
        again = await office.supervisor.load(DEMO, flags(engine="fragile"))
        assert len(again.warnings) == 2, "whoever loads it anew has the same build"
        await office.supervisor.unload(["demo"])
        again = await office.supervisor.load(DEMO, flags(engine="fragile"))
        assert not again.warnings, "whoever has unloaded it tries with all again"


async def test_options_that_cannot_be_do_not_cost_the_model_that_serves(tmp_path: Path) -> None:
    async with bench(tmp_path, room_for=1) as office:
        await office.supervisor.load(DEMO)
        pid = office.pid
        with pytest.raises(BadOption):
            await office.supervisor.load(DEMO, LoadOptions.parse({"engine": "fake", "ctx": IMPOSSIBLE}))
        with pytest.raises(BadOption):
            async with office.supervisor.lease(DEMO, LoadOptions.parse({"engine": "fake", "ctx": IMPOSSIBLE})):
                raise AssertionError("it loaded")
        assert office.pid == pid
        assert (await office.supervisor.load(DEMO, LoadOptions.parse({"engine": "fake", "ctx": 1024}))).pid != pid


async def test_nothing_is_evicted_where_another_program_has_taken_the_memory(tmp_path: Path) -> None:
    async with bench(tmp_path, room_for=3) as office:
        async with office.supervisor.lease(DEMO):
            pass
        await office.supervisor.load(model("busy"))
        pids = {status.model: status.pid for status in office.supervisor.status()}
        office.room_for = 1  # as if others had taken two thirds: it would not do with everybody gone
        async with office.supervisor.lease(model("busy")):
            with pytest.raises(DoesNotFit) as short:
                await office.supervisor.load(model("large"), LoadOptions.parse({"engine": "fake", "ctx": LARGE}))
            assert (short.value.details["needed"], short.value.details["free"]) == (3 * SIZE, 0)
        assert {status.model: status.pid for status in office.supervisor.status()} == pids, "both serve on"


async def test_memory_that_is_taken_while_room_is_made_is_told_as_that(tmp_path: Path) -> None:
    """One has left for it before anybody could know; the other is to stay."""

    class Faster(Unobserved):
        """Another program, which takes the memory that a worker leaves."""

        def worker_stopping(self, model: str, engine: str, reason: str) -> None:
            office.room_for = 1

    async with bench(tmp_path, room_for=2, observer=Faster()) as office:
        await office.supervisor.load(model("one"))
        await office.supervisor.load(model("two"), pin=True)
        with pytest.raises(DoesNotFit, match="three needs"):
            await office.supervisor.load(model("three"))
        assert there(office, "two")


class Swaps(Unobserved):
    """Counts evictions and the models that served in their place."""

    def __init__(self) -> None:
        self.evicted: list[str] = []
        self.seconds: list[float] = []

    def worker_stopping(self, model: str, engine: str, reason: str) -> None:
        if reason == "evicted":
            self.evicted.append(model)

    def swapped(self, model: str, engine: str, seconds: float) -> None:
        self.seconds.append(seconds)


async def test_two_agents_that_alternate_swap_once_a_turn(tmp_path: Path) -> None:
    """As many requests as come in three turns, and not more swaps than those."""
    swaps, served = Swaps(), {"qwen": 0, "gemma": 0}
    turn_s = 1.5

    async def agent(office: Bench, name: str, until_s: float) -> None:
        while time.monotonic() < until_s:
            async with office.supervisor.lease(model(name)):
                served[name] += 1
            await asyncio.sleep(0.01)  # what an agent does between two questions

    async with bench(tmp_path, room_for=1, observer=swaps, policy=Policy(turn_s=turn_s)) as office:
        began_s = time.monotonic()
        await asyncio.gather(*(agent(office, name, began_s + 3 * turn_s) for name in served))
        seconds = time.monotonic() - began_s
    assert len(swaps.evicted) <= seconds / turn_s + 1
    # A hundred in a turn where nothing else wants the processor; without turns it would be one.
    assert min(served.values()) > 0
    assert sum(served.values()) > 2 * len(swaps.evicted), served
    assert len(swaps.seconds) == len(swaps.evicted)
    assert min(swaps.seconds) > 0


async def test_a_lease_knows_its_place_in_the_queue(tmp_path: Path) -> None:
    async def place(office: Bench) -> int:
        async with office.supervisor.lease(DEMO) as lease:
            return lease.queue_position

    async with bench(tmp_path) as office:
        async with office.supervisor.lease(DEMO, slots=2) as lease:
            assert lease.queue_position == 1
            waiting = [asyncio.ensure_future(place(office)) for _ in range(3)]
            await until(lambda: len(office.supervisor.queue()) == 3)
        assert await asyncio.gather(*waiting) == [1, 2, 3]
        assert await place(office) == 0
