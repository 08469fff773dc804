"""What a worker may take, and what happens when it wants more."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import orjson
import pytest

from tests.runtime.stand_in import DEMO, bench, flags, machine, plan
from uml.config import Settings
from uml.core.errors import DoesNotFit, OutOfMemory, RequestTimeLimit
from uml.core.options import LoadOptions
from uml.engines.fake import Fake
from uml.house import House
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.workers.ending import explain
from uml.runtime.workers.limits import Group, Limits, cores, data_bytes, parent_group, some_of

MIB = 1 << 20
CHAT = "/v1/chat/completions"


def said_by(path: Path) -> str:
    return path.read_text().strip()


async def test_a_worker_that_wants_more_memory_than_it_may_fails_as_that(tmp_path: Path) -> None:
    limited = Confinement(limits=Limits(memory_bytes=512 * MIB))
    async with bench(tmp_path, confinement=limited) as office:
        with pytest.raises(OutOfMemory):
            await office.supervisor.load(DEMO, flags("memory_mib=1000"))
        assert (await office.supervisor.load(DEMO, flags("memory_mib=10"))).state == "ready"


async def test_a_limit_is_of_memory_and_not_of_room_for_stacks(tmp_path: Path) -> None:
    # The eighty threads of llama.cpp's server ask for 640 MiB of stacks, and the whole load for a tenth of it.
    given = {"data": str(tmp_path / "data"), "llama_server": "none", "worker_memory": "100MiB"}
    settings = Settings.load(given, {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    async with House.open(settings) as house:
        model = house.library.find("demo")
        assert (await house.supervisor.load(model)).estimated_bytes <= 100 * MIB
        with pytest.raises(DoesNotFit, match=r"100 MiB are free within worker_memory; it fits with parallel="):
            await house.supervisor.load(model, LoadOptions(ctx=2048, parallel=32))


def test_what_a_limit_of_memory_lets_a_worker_ask_for() -> None:
    assert data_bytes(None, 80) is None
    few, many = data_bytes(100 * MIB, 1), data_bytes(100 * MIB, 81)
    assert few is not None and many is not None
    assert many - few >= 80 * MIB


@pytest.mark.parametrize("limit", [MIB, None])
def test_a_thread_that_a_limit_refuses_is_want_of_memory(limit: int | None) -> None:
    log = "terminate called after throwing 'std::system_error'\n  what():  Resource temporarily unavailable"
    there = plan(DEMO, LoadOptions(), machine(MIB), ())
    found = explain(there, Fake(), log, -signal.SIGABRT, served=False, starved=False, limit_bytes=limit)
    assert isinstance(found, OutOfMemory) is (limit is not None)
    assert ("it ran out of the 1 MiB that worker_memory allows it" in found.message) is (limit is not None)


async def test_a_worker_keeps_to_its_processors_and_steps_back(tmp_path: Path) -> None:
    allowed, own = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    limited = Confinement(limits=Limits(cpu_share=0.5, nice=1))
    async with bench(tmp_path, confinement=limited) as office:
        await office.supervisor.load(DEMO)
        assert len(os.sched_getaffinity(office.pid)) == cores(0.5, len(allowed))
        assert os.getpriority(os.PRIO_PROCESS, office.pid) == min(19, own + 1)
        assert said_by(Path(f"/proc/{office.pid}/oom_score_adj")) == "500"


async def test_an_answer_that_takes_too_long_ends_and_frees_its_slot(tmp_path: Path) -> None:
    body = orjson.dumps({"max_tokens": 500, "stream": True, "messages": [{"role": "user", "content": "hi"}]})
    async with bench(tmp_path, request_limit_s=0.2) as office:
        with pytest.raises(RequestTimeLimit, match=r"demo had not finished the answer after 0\.2 s"):
            async with office.supervisor.lease(DEMO, flags("tokens_per_s=20"), slots=2) as lease:
                response = await lease.channel.request("POST", CHAT, body, stream=True)
                try:
                    await response.read(1 << 20)
                finally:
                    response.close()
        assert lease.channel.awaited == 0
        async with office.supervisor.lease(DEMO, slots=2) as lease:
            assert not lease.loaded


async def test_who_leaves_in_time_is_told_nothing_of_limits(tmp_path: Path) -> None:
    async with bench(tmp_path, request_limit_s=30.0) as office:
        async with office.supervisor.lease(DEMO):
            pass
        with pytest.raises(ZeroDivisionError):
            async with office.supervisor.lease(DEMO):
                raise ZeroDivisionError
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), office.supervisor.lease(DEMO):
                await asyncio.Event().wait()


def test_shares_of_processors() -> None:
    assert [cores(share, 4) for share in (None, 1.0, 0.5, 0.3, 0.01)] == [4, 4, 2, 2, 1]
    allowed = (0, 1, 4, 5)
    assert some_of(allowed, None, 0) == some_of(allowed, 1.0, 3) == some_of((), 0.5, 0) == ()
    assert [some_of(allowed, 0.5, number) for number in range(3)] == [(0, 1), (4, 5), (0, 1)]


def system(root: Path, own: str, *, unified: bool = False) -> Path:
    """A tree of control groups with memory handed down in `user`; the folder of that group."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"5:cpu:/elsewhere\n0::{own}\n")
    mount = root / "sys/fs/cgroup" / ("unified" if unified else "")
    user = mount / "user"
    (user / "app").mkdir(parents=True)
    for folder, given in ((mount, "cpu"), (user, "cpu memory"), (user / "app", "")):
        (folder / "cgroup.subtree_control").write_text(given)
        (folder / "cgroup.procs").touch()
    return user


@pytest.mark.parametrize("unified", [False, True])
def test_groups_are_made_where_memory_is_handed_down(tmp_path: Path, unified: bool) -> None:
    user = system(tmp_path, "/user/app", unified=unified)
    assert parent_group(tmp_path) == user
    group = Group.make(user, "7-1", Limits(memory_bytes=MIB, cpu_share=0.5), 4)
    said = {path.name: path.read_text() for path in group.path.iterdir()}
    assert said == {"memory.max": str(MIB), "memory.oom.group": "1", "cpu.max": "200000 100000"}
    assert group.oom_kills() == 0
    (group.path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert group.oom_kills() == 2
    group.remove()
    assert (group.path / "cgroup.kill").read_text() == "1"


def test_no_group_where_there_is_none_to_make_it_in(tmp_path: Path) -> None:
    assert parent_group(tmp_path) is None
    system(tmp_path, "/../outside")
    assert parent_group(tmp_path) is None
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    assert parent_group(tmp_path) is None  # the root hands processors down only


async def test_a_group_that_cannot_be_made_or_joined_leaves_the_other_limits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(memory_bytes=512 * MIB)
    (tmp_path / "groups").mkdir()
    for parent in (tmp_path / "nowhere", tmp_path / "groups"):
        async with bench(tmp_path, confinement=Confinement(limits=limits, parent=parent)) as office:
            with pytest.raises(OutOfMemory):
                await office.supervisor.load(DEMO, flags("memory_mib=1000"))
    assert "no control group for worker" in caplog.text
    assert "takes no process" in said_by(tmp_path / "logs/demo.log")
