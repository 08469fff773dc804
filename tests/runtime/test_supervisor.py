"""Stories of loads, leases and ends, with real worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from tests.runtime.stand_in import DEMO, Bench, bench, flags, model
from tests.waiting import PATIENCE_S, alive, until
from uml.core.errors import (
    Cancelled,
    ConnectionLost,
    DoesNotFit,
    FolderNotWritable,
    IllegalInstruction,
    LoadFailed,
    LoadTimeout,
    OutOfMemory,
    Overloaded,
    WorkerDied,
    WorkerHung,
)
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.planning.evict import Running
from uml.runtime.observer import Unobserved
from uml.runtime.scheduling.policy import Policy
from uml.runtime.supervisor import Lease
from uml.runtime.workers.channel import ChannelBroken, Response

CHAT = "/v1/chat/completions"


async def chat(lease: Lease, *, stream: bool = False, tokens: int = 4) -> Response:
    body = {"model": "demo", "stream": stream, "max_tokens": tokens, "messages": [{"role": "user", "content": "hi"}]}
    return await lease.channel.request("POST", CHAT, orjson.dumps(body), stream=stream)


def looks(office: Bench, **wanted: object) -> Callable[[], bool]:
    """Whether the first worker looks like this."""

    def look() -> bool:
        status = office.supervisor.status()
        return bool(status) and all(getattr(status[0], name) == value for name, value in wanted.items())

    return look


async def test_a_lease_loads_the_model_and_answers(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        async with office.supervisor.lease(DEMO) as lease:
            assert lease.loaded
            assert lease.waited_s > 0.01
            assert (lease.spec.name, lease.plan.options.ctx) == ("fake", 512)
            response = await chat(lease)
            assert response.status == 200
            assert b"choices" in await response.read(1 << 20)
            (status,) = office.supervisor.status()
            assert (status.state, status.in_flight, status.idle_s, status.slots) == ("ready", 1, 0.0, 2)
            assert status.memory_bytes > 1 << 20
            assert status.load_s > 0
        async with office.supervisor.lease(DEMO) as lease:
            assert not lease.loaded
        (status,) = office.supervisor.status()
        assert (status.in_flight, status.requests, status.progress) == (0, 2, 100.0)


async def test_many_who_ask_cause_one_load(tmp_path: Path) -> None:
    async def ask(office: Bench) -> int | None:
        async with office.supervisor.lease(DEMO, flags("load_s=0.1")):
            return office.pid

    async with bench(tmp_path) as office:
        pids = await asyncio.gather(*(ask(office) for _ in range(20)))
        assert len(set(pids)) == 1
        assert office.supervisor.status()[0].requests == 20


async def test_more_than_its_slots_wait_their_turn(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        async with office.supervisor.lease(DEMO, slots=2):
            third = asyncio.ensure_future(office.supervisor.load(DEMO))
            assert (await third).state == "ready"
            waiting = asyncio.ensure_future(_hold(office))
            await until(office.supervisor.queue)
            (place,) = office.supervisor.queue()
            assert (place.model, place.position, place.waits_for) == ("demo", 1, "slot")
            assert office.supervisor.status()[0].queued == 1
        await waiting


async def _hold(office: Bench) -> Lease:
    async with office.supervisor.lease(DEMO) as lease:
        return lease


async def test_who_stops_waiting_leaves_the_queue_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        async with office.supervisor.lease(DEMO, slots=2):
            waiting = asyncio.ensure_future(_hold(office))
            await until(office.supervisor.queue)
            waiting.cancel()
            await asyncio.wait({waiting})
            assert office.supervisor.queue() == ()
        async with office.supervisor.lease(DEMO, slots=2):
            pass  # nothing was left held


async def test_a_grant_that_crosses_its_cancelling_holds_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        holder = office.supervisor.lease(DEMO, slots=2)
        await holder.__aenter__()
        waiting = asyncio.ensure_future(_hold(office))
        await until(office.supervisor.queue)
        await holder.__aexit__(None, None, None)  # grants
        waiting.cancel()
        await asyncio.wait({waiting})
        assert office.supervisor.status()[0].in_flight == 0


async def test_the_queue_has_an_end(tmp_path: Path) -> None:
    async with bench(tmp_path, policy=Policy(queue_limit=1)) as office, office.supervisor.lease(DEMO, slots=2):
        waiting = asyncio.ensure_future(_hold(office))
        await until(office.supervisor.queue)
        with pytest.raises(Overloaded):
            await _hold(office)
        waiting.cancel()


@pytest.mark.parametrize(
    ("words", "engine", "error", "sentence"),
    [
        (["crash_on_load=1"], "fake", LoadFailed, "SIGABRT"),
        (["oom_on_load=1"], "fake", OutOfMemory, "cpu ran out of memory"),
        (["illegal_instruction=1"], "fake", IllegalInstruction, "SIGILL"),
        (["say=no such tensor", "exit=3"], "stand-in", LoadFailed, "exit code 3; its last words: no such tensor"),
        (["say=cannot allocate", "exit=1"], "stand-in", OutOfMemory, "smaller ctx"),
        (["kill=9"], "stand-in", LoadFailed, "killed by SIGKILL, without a word"),
        (["kill=40"], "stand-in", LoadFailed, "killed by signal 40"),
        (["no-program"], "stand-in", LoadFailed, "cannot be started: .*/nowhere/at/all"),
    ],
)
async def test_a_load_that_fails_says_why_to_all_who_wait(
    tmp_path: Path, words: list[str], engine: str, error: type[LoadFailed], sentence: str
) -> None:
    async def ask(office: Bench) -> None:
        async with office.supervisor.lease(DEMO, flags(*words, engine=engine)):
            raise AssertionError("it loaded")

    async with bench(tmp_path) as office:
        for failure in await asyncio.gather(*(ask(office) for _ in range(3)), return_exceptions=True):
            assert isinstance(failure, error)
            with pytest.raises(error, match=sentence):
                raise failure
        (status,) = office.supervisor.status()
        assert (status.state, status.pid) == ("failed", None)
        assert status.error is not None
        assert status.error["code"] == error.code
        assert (await office.supervisor.load(DEMO)).state == "ready"
        assert [status.state for status in office.supervisor.status()] == ["ready"]


async def test_a_planner_that_breaks_stops_only_its_model(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        with pytest.raises(LoadFailed, match="could not be planned: ZeroDivisionError"):
            await office.supervisor.load(model("broken"))
        assert (await office.supervisor.load(DEMO)).state == "ready"


async def test_what_can_never_fit_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path, room_for=0) as office:
        with pytest.raises(DoesNotFit):
            await office.supervisor.load(DEMO)


async def test_a_load_that_stands_still_is_given_up(tmp_path: Path) -> None:
    async with bench(tmp_path, stall_s=0.5) as office:
        with pytest.raises(LoadTimeout, match="no sign of progress"):
            await office.supervisor.load(DEMO, flags("hang", engine="stand-in"))
        with pytest.raises(LoadTimeout):
            await office.supervisor.load(DEMO, flags("deaf", engine="stand-in"))


async def test_a_load_that_is_stopped_in_its_tracks_is_given_up(tmp_path: Path) -> None:
    async with bench(tmp_path, stall_s=0.5) as office:
        loading = asyncio.ensure_future(office.supervisor.load(DEMO, flags("load_s=60")))
        await until(looks(office, state="loading"))
        os.kill(pid := office.pid, signal.SIGSTOP)
        with pytest.raises(LoadTimeout):
            await loading
        assert not alive(pid)


async def test_a_worker_that_stands_still_is_given_up_with_its_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("BEAT_S", "ANSWER_LIMIT_S"):
        monkeypatch.setattr(f"uml.runtime.workers.process.{limit}", 0.05)
    async with bench(tmp_path, hang_s=0.5) as office:
        async with office.supervisor.lease(DEMO) as lease:
            os.kill(pid := office.pid, signal.SIGSTOP)
            with pytest.raises(TimeoutError):  # who does not want to wait can leave
                async with asyncio.timeout(0.05):
                    await chat(lease)
            unloading = asyncio.ensure_future(office.supervisor.unload(["demo"]))
            with suppress(ChannelBroken):  # woken up to end, it may still answer
                await chat(lease)
            fate = await lease.fate(PATIENCE_S)
            assert isinstance(fate, WorkerHung)
            assert "a signal had stopped it" in fate.message
            assert await unloading == ("demo",)
        assert not alive(pid)
        async with office.supervisor.lease(DEMO) as lease:
            assert (await chat(lease)).status == 200


async def test_a_slow_load_that_shows_signs_of_work_is_waited_for(tmp_path: Path) -> None:
    async with bench(tmp_path, stall_s=1.5) as office:
        assert (await office.supervisor.load(DEMO, flags("chatter=2", engine="stand-in"))).load_s > 2


async def test_a_crash_in_mid_answer_is_told_and_the_next_lease_gets_a_fresh_worker(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        async with office.supervisor.lease(DEMO, flags("crash_after_tokens=2", "tokens_per_s=50")) as lease:
            first = office.pid
            response = await chat(lease, stream=True)
            with pytest.raises(ChannelBroken):
                async for _ in response:
                    pass
            fate = await lease.fate(PATIENCE_S)
            assert isinstance(fate, WorkerDied)
            assert "SIGABRT" in fate.message
        (status,) = office.supervisor.status()
        assert (status.state, status.pid) == ("failed", None)
        async with office.supervisor.lease(DEMO) as lease:
            assert lease.loaded
            assert office.pid != first


async def test_the_cause_of_a_death_goes_into_its_sentence(tmp_path: Path) -> None:
    async with bench(tmp_path) as office, office.supervisor.lease(DEMO) as lease:
        os.kill(office.pid, signal.SIGILL)
        fate = await lease.fate(PATIENCE_S)
        assert isinstance(fate, WorkerDied)
        assert fate.details["reason"] == "illegal_instruction"
        assert "did not load" not in fate.message


async def test_a_connection_that_breaks_while_the_process_lives(tmp_path: Path) -> None:
    async with bench(tmp_path) as office, office.supervisor.lease(DEMO, flags(engine="stand-in")) as lease:
        with pytest.raises(ChannelBroken):
            await lease.channel.request("GET", "/break")
        assert isinstance(await lease.fate(grace_s=0.05), ConnectionLost)


async def test_a_worker_killed_while_idle_is_noticed_and_started_anew(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        await office.supervisor.load(DEMO)
        first = office.pid
        os.kill(first, signal.SIGKILL)
        await until(looks(office, state="failed"))
        async with office.supervisor.lease(DEMO) as lease:
            assert lease.loaded
            assert office.pid != first
            assert (await chat(lease)).status == 200


async def test_another_model_waits_until_the_busy_one_is_done_and_gone(tmp_path: Path) -> None:
    async with bench(tmp_path, room_for=1) as office:
        async with office.supervisor.lease(DEMO) as lease:
            first = office.pid
            other = asyncio.ensure_future(office.supervisor.load(model("other")))
            await until(office.supervisor.queue)
            # One that had been told to go could not answer any more.
            assert (await chat(lease)).status == 200
            assert alive(first)
        assert (await other).model == "other"
        assert not alive(first)
        assert [status.model for status in office.supervisor.status()] == ["other"]


async def test_other_options_load_it_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        await office.supervisor.load(DEMO)
        first = office.pid
        stages = [step.stage async for step in office.supervisor.load_progress(DEMO, flags("load_s=0.05"))]
        assert stages[-1] == "ready"
        assert set(stages) <= {"queued", "evicting", "starting", "loading", "ready"}
        assert not alive(first)
        assert office.pid != first


async def test_the_progress_of_a_load(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        slow = flags("load_s=0.7", "memory_mib=8")
        steps = [step async for step in office.supervisor.load_progress(DEMO, slow)]
        assert steps[0].stage == "starting"
        assert {step.stage for step in steps} == {"starting", "loading", "ready"}
        percents = [step.percent for step in steps]
        assert percents == sorted(percents)
        assert percents[-1] == 100.0
        assert steps[-2].percent == 99.0
        assert steps[-1].seconds > 0.7


async def test_closing_the_progress_gives_the_load_up(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        progress = office.supervisor.load_progress(DEMO, flags("load_s=30"))
        async for step in progress:
            if step.stage == "loading":
                break
        pid = office.pid
        await progress.aclose()  # type: ignore[attr-defined]
        await until(lambda: not office.supervisor.status())
        assert not alive(pid)


async def test_a_cancelled_load_goes_on_while_somebody_else_waits(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        slow = flags("load_s=0.2")
        giving_up = asyncio.ensure_future(office.supervisor.load(DEMO, slow))
        staying = asyncio.ensure_future(office.supervisor.load(DEMO, slow))
        await until(looks(office, state="loading"))
        giving_up.cancel()
        assert (await staying).state == "ready"


async def test_unloading_cancels_a_load(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        loading = asyncio.ensure_future(office.supervisor.load(DEMO, flags("load_s=30")))
        await until(looks(office, state="loading"))
        assert await office.supervisor.unload(["demo", "unknown"]) == ("demo",)
        with pytest.raises(Cancelled):
            await loading
        assert office.supervisor.status() == ()


async def test_unloading_a_busy_model_waits_for_its_requests(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        async with office.supervisor.lease(DEMO) as lease:
            unloading = asyncio.ensure_future(office.supervisor.unload())
            await asyncio.sleep(0)  # one turn of the loop: it is asked
            assert (await chat(lease)).status == 200
            assert not unloading.done()
        assert await unloading == ("demo",)
        assert isinstance(await lease.fate(PATIENCE_S), WorkerDied)


async def test_leaving_ends_every_worker_and_everybody_who_waits(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        await office.supervisor.load(DEMO)
        await office.supervisor.load(model("second"))
        pids = [status.pid for status in office.supervisor.status()]
        loading = asyncio.ensure_future(office.supervisor.load(model("third"), flags("load_s=30")))
        await until(lambda: "loading" in [status.state for status in office.supervisor.status()])
    with pytest.raises(Overloaded, match="stopping"):
        await loading
    with pytest.raises(Overloaded, match="stopping"):
        await office.supervisor.load(DEMO)
    assert not any(alive(pid) for pid in pids if pid)


async def test_the_log_of_a_worker_outlives_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        assert office.supervisor.log_tail("demo", 5) == ""
        for word in ("one", "two"):
            with pytest.raises(LoadFailed):
                await office.supervisor.load(DEMO, flags(f"say={word}", "exit=1", engine="stand-in"))
        told = office.supervisor.log_tail("demo", 5).splitlines()
        assert [line for line in told if not line.startswith("# ")] == ["one", "two"]
        assert "stand-in loads /models/demo.gguf: ctx 512 for each of 2 requests" in told[2]
        assert office.supervisor.log_tail("../run/demo", 5) == ""
    assert (office.logs / "demo.log.1").read_text().endswith("\none\n")


async def test_an_observer_is_told(tmp_path: Path) -> None:
    class Witness(Unobserved):
        def __init__(self) -> None:
            self.seen: list[tuple[object, ...]] = []

        def load_started(self, model: str, engine: str) -> None:
            self.seen.append(("started", model, engine))

        def load_ended(self, model: str, engine: str, seconds: float, error: str | None) -> None:
            assert seconds > 0
            self.seen.append(("ended", model, engine, error))

        def worker_exited(self, model: str, engine: str, exit_code: int | None) -> None:
            self.seen.append(("exited", model, engine, exit_code))

        def queue_changed(self, waiting: int) -> None:
            self.seen.append(("queue", waiting))

        def worker_stopping(self, model: str, engine: str, reason: str) -> None:
            self.seen.append(("stopping", reason))

    witness = Witness()
    async with bench(tmp_path, observer=witness) as office:
        await office.supervisor.load(DEMO)
        await office.supervisor.unload()
        with pytest.raises(LoadFailed):
            await office.supervisor.load(DEMO, flags("exit=4", engine="stand-in"))
        loading = asyncio.ensure_future(office.supervisor.load(DEMO, flags("hang", engine="stand-in")))
        await until(looks(office, state="loading"))
        loading.cancel()
        await asyncio.wait({loading})
        await until(lambda: not office.supervisor.status())
    assert [event for event in witness.seen if event[0] == "stopping"] == [
        ("stopping", "unloaded"),
        ("stopping", "abandoned"),
    ]
    seen = [event for event in witness.seen if event[0] not in ("queue", "stopping")]
    exits = [event[3] for event in seen if event[0] == "exited"]
    assert [event[:2] for event in seen] == [("started", "demo"), ("ended", "demo"), ("exited", "demo")] * 3
    assert [event[3] for event in seen if event[0] == "ended"] == [None, "load_failed", "cancelled"]
    assert exits[1] == 4
    assert ("queue", 1) in witness.seen
    assert ("queue", 0) in witness.seen


async def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderNotWritable):
        async with bench(tmp_path):
            raise AssertionError("it opened")


async def test_a_folder_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderNotWritable, match="too long for a Unix socket"):
        async with bench(tmp_path / ("x" * 90)):
            raise AssertionError("it opened")


async def test_what_takes_long_is_found_out_in_a_thread_before_the_plan(tmp_path: Path) -> None:
    loop_thread, prepared = threading.get_ident(), []

    def prepare(model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running]) -> None:
        assert threading.get_ident() != loop_thread
        prepared.append((model.id, machine.memory.free_bytes, len(running)))
        raise ZeroDivisionError("a bug in it changes nothing")

    async with bench(tmp_path, preparer=prepare) as office:
        assert (await office.supervisor.load(DEMO)).state == "ready"
        async with office.supervisor.lease(DEMO):
            pass
        async with office.supervisor.lease(model("other")):
            pass
    assert [(name, count) for name, _, count in prepared] == [("demo", 0), ("other", 1)]
