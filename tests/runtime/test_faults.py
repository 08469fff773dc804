"""Workers and servers that die, stand still or will not go: real processes, the invented engine and the real one."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.runtime.stand_in import DEMO, bench, flags
from tests.waiting import PATIENCE_S, alive, until
from uml.config import Settings
from uml.core.engine import Endpoint, Launch
from uml.core.errors import LoadFailed, LoadTimeout, UmlError, WorkerDied, WorkerHung
from uml.core.plan import LoadPlan
from uml.engines.fake import Fake
from uml.house import House
from uml.runtime.supervisor import Lease, Supervisor
from uml.runtime.workers.channel import ChannelBroken
from uml.runtime.workers.watch import Patience

CHAT = "/v1/chat/completions"
SLOW = flags("tokens_per_s=5")
AT_ONCE_S = 5.0
"""A second is the goal, and a minute what it takes where only silence tells of a death."""


@pytest.fixture(autouse=True)
def _looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.runtime.workers.process.BEAT_S", 0.1)


async def broken_answer(lease: Lease, after: Callable[[], object] = lambda: None) -> UmlError:
    """Ask for a long answer, do something once it has begun, and give back why it broke off."""
    body = {"model": "demo", "stream": True, "max_tokens": 2000, "messages": [{"role": "user", "content": "hi"}]}
    with suppress(ChannelBroken):
        response = await lease.channel.request("POST", CHAT, orjson.dumps(body), stream=True)
        async with response:
            async for _ in response:
                after()
                after = lambda: None  # noqa: E731
    return await lease.fate(PATIENCE_S)


def kill(pid: int, number: int) -> Callable[[], None]:
    return lambda: os.kill(pid, number)


@pytest.mark.parametrize(
    ("number", "reason", "words"),
    [
        (signal.SIGKILL, "killed", "killed by SIGKILL"),
        (signal.SIGSEGV, "crashed", "killed by SIGSEGV"),
        (signal.SIGBUS, "crashed", "a file that it had mapped has become shorter"),
        (signal.SIGILL, "illegal_instruction", "SIGILL"),
    ],
)
async def test_a_death_in_mid_answer_is_told_at_once(
    tmp_path: Path, number: signal.Signals, reason: str, words: str
) -> None:
    async with bench(tmp_path) as office:
        async with office.supervisor.lease(DEMO, SLOW) as lease:
            began = 0.0

            def strike() -> None:
                nonlocal began
                began = time.monotonic()
                os.kill(office.pid, number)

            fate = await broken_answer(lease, strike)
            assert time.monotonic() - began < AT_ONCE_S
            assert isinstance(fate, WorkerDied)
            assert (fate.details["reason"], fate.details["exit_code"]) == (reason, -number)
            assert words in fate.message
        async with office.supervisor.lease(DEMO) as lease:
            assert (await lease.channel.health()) == 200


async def test_one_that_is_stopped_in_mid_answer_is_given_up_for_all_who_wait(tmp_path: Path) -> None:
    async with bench(tmp_path, hang_s=1.0) as office:
        async with office.supervisor.lease(DEMO, SLOW) as lease, office.supervisor.lease(DEMO) as other:
            pid = office.pid
            fates = await asyncio.gather(broken_answer(lease, kill(pid, signal.SIGSTOP)), broken_answer(other))
            assert [type(fate) for fate in fates] == [WorkerHung, WorkerHung]
            assert "a signal had stopped it" in fates[0].message
        assert not alive(pid)


async def test_one_that_answers_for_its_health_only_is_given_up(tmp_path: Path) -> None:
    async with (
        bench(tmp_path, hang_s=1.0) as office,
        office.supervisor.lease(DEMO, flags("hang_after_tokens=2")) as lease,
    ):
        fate = await broken_answer(lease)
        assert isinstance(fate, WorkerHung)
        assert "it had done nothing for" in fate.message
        assert fate.as_dict()["error"]["code"] == "worker_hung"


async def test_one_that_hangs_with_a_request_is_not_waited_for_when_it_is_unloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "uml.runtime.workers.watch.HURRIED", Patience(stopped_s=1.0, deaf_s=1.0, quiet_s=1.0, idle_s=1.0)
    )
    # Without the hurry of who unloads it, it would never be given up.
    async with bench(tmp_path, hang_s=math.inf) as office:
        async with office.supervisor.lease(DEMO, flags("hang_after_tokens=2")) as lease:
            asking = asyncio.ensure_future(broken_answer(lease))
            await until(lambda: lease.channel.heard > 0)
            unloading = asyncio.ensure_future(office.supervisor.unload(["demo"]))
            assert isinstance(await asking, WorkerHung)
        assert await unloading == ("demo",)


async def test_work_that_we_hold_up_ourselves_is_not_owed(tmp_path: Path) -> None:
    body = orjson.dumps({"max_tokens": 400, "stream": True, "messages": [{"role": "user", "content": "x"}]})
    async with bench(tmp_path) as office, office.supervisor.lease(DEMO, SLOW) as lease:
        assert lease.channel.awaited == 0
        response = await lease.channel.request("POST", CHAT, body, stream=True)
        await anext(response)
        assert lease.channel.awaited == 1
        response.pause()  # as for a client that reads slowly
        assert lease.channel.awaited == 0
        response.resume()
        assert lease.channel.awaited == 1
        response.close()
        assert lease.channel.awaited == 0


@pytest.mark.parametrize(
    ("words", "engine", "error"),
    [
        (["kill=11"], "stand-in", LoadFailed),
        (["exit=3"], "stand-in", LoadFailed),
        (["crash_on_load=1"], "fake", LoadFailed),
        (["deaf"], "stand-in", LoadTimeout),
    ],
)
async def test_an_end_during_the_load_is_told(
    tmp_path: Path, words: list[str], engine: str, error: type[LoadFailed]
) -> None:
    async with bench(tmp_path, stall_s=1.0) as office:
        with pytest.raises(error):
            await office.supervisor.load(DEMO, flags(*words, engine=engine))
        assert list(office.run.iterdir()) == []


async def test_a_load_that_a_signal_has_stopped_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.runtime.workers.process.STOPPED_LOAD_S", 0.5)
    async with bench(tmp_path) as office:
        loading = asyncio.ensure_future(office.supervisor.load(DEMO, flags("load_s=60")))
        await until(lambda: any(status.pid for status in office.supervisor.status()))
        os.kill(office.pid, signal.SIGSTOP)
        with pytest.raises(LoadTimeout, match="SIGSTOP"):
            await loading


async def test_one_that_ignores_its_end_goes_all_the_same(tmp_path: Path) -> None:
    async with bench(tmp_path) as office:
        await office.supervisor.load(DEMO, flags("ignore_sigterm=1"))
        pid = office.pid
        await office.supervisor.unload()
        assert not alive(pid)


# --- memory -------------------------------------------------------------------------------------

GROUPS = Path("/sys/fs/cgroup/memory")


class Cramped(Fake):
    """Its workers run in a control group with little memory, so that the kernel ends them for it."""

    def __init__(self, group: Path) -> None:
        super().__init__()
        self._group = group

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        launch = super().launch(plan, endpoint)
        join = f'echo $$ > {self._group}/cgroup.procs && exec "$@"'
        return replace(launch, argv=("sh", "-c", join, "sh", *launch.argv))


@pytest.fixture
def cramped() -> Iterator[Path]:
    group = GROUPS / f"uml-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(128 << 20))
    except OSError:
        pytest.skip("no control group with a memory limit can be made here")
    yield group
    group.rmdir()


async def test_the_kernel_ending_one_for_want_of_memory_is_told_as_that(tmp_path: Path, cramped: Path) -> None:
    async with bench(tmp_path, engines={"fake": Cramped(cramped)}) as office:
        with pytest.raises(LoadFailed) as failed:
            await office.supervisor.load(DEMO, flags("memory_mib=512"))
        assert failed.value.code == "out_of_memory"
        assert (await office.supervisor.load(DEMO, flags("memory_mib=1"))).state == "ready"


# --- the real engine ----------------------------------------------------------------------------


@asynccontextmanager
async def house(data: Path) -> AsyncIterator[House]:
    settings = Settings.load({"data": str(data)}, {"HOME": str(data), "PATH": os.environ["PATH"]})
    async with House.open(replace(settings, hang_timeout_s=3.0)) as opened:
        yield opened


def pid_of(supervisor: Supervisor) -> int:
    (worker,) = supervisor.status()
    assert worker.pid is not None
    return worker.pid


@pytest.mark.slow  # three loads of llama.cpp, and a hang that is waited for
async def test_the_embedded_engine_is_killed_and_stopped_in_mid_answer(tmp_path: Path) -> None:
    async with house(tmp_path) as opened:
        model = opened.library.find("demo")
        for number, kind, words in (
            (signal.SIGKILL, WorkerDied, "SIGKILL"),
            (signal.SIGSEGV, WorkerDied, "SIGSEGV"),
            (signal.SIGSTOP, WorkerHung, "a signal had stopped it"),
        ):
            async with opened.supervisor.lease(model) as lease:
                fate = await broken_answer(lease, kill(pid_of(opened.supervisor), number))
                assert type(fate) is kind
                assert words in fate.message


SERVER = """
import asyncio, os, sys
from pathlib import Path
from tests.runtime.test_faults import house, pid_of
async def main():
    async with house(Path(sys.argv[1])) as opened:
        await opened.supervisor.load(opened.library.find("demo"))
        print(pid_of(opened.supervisor), opened.library.settings.runtime, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.slow  # two servers with llama.cpp, one after the other
async def test_a_server_that_is_killed_leaves_nothing_and_the_next_start_is_clean(tmp_path: Path) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(tmp_path), cwd=Path(__file__).parents[2], stdout=subprocess.PIPE
    )
    assert server.stdout
    number, runtime = (await server.stdout.readline()).split()
    assert alive(int(number))
    server.send_signal(signal.SIGKILL)
    await server.wait()
    await until(lambda: not alive(int(number)))
    async with house(tmp_path) as opened:
        folder = opened.library.settings.runtime
        assert os.fsencode(folder) == runtime
        assert list(folder.iterdir()) == []
        assert (await opened.supervisor.load(opened.library.find("demo"))).state == "ready"
    assert not folder.exists()


async def test_children_of_a_dead_worker_are_ended_at_the_next_start(tmp_path: Path) -> None:
    from tests.runtime.workers.test_orphans import killed_server

    pid = await killed_server(tmp_path, "stand-in", "grandchild")
    child = int(word_of_the_worker(tmp_path).split()[1])
    await until(lambda: not alive(pid))
    assert alive(child)  # nobody had told it
    async with bench(tmp_path):
        await until(lambda: not alive(child))


def word_of_the_worker(folder: Path) -> str:
    lines = (folder / "logs/demo.log").read_text().splitlines()
    return next(line for line in lines if line.startswith("grandchild"))
