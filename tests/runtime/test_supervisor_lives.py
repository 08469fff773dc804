"""Two hundred random lives with real workers: nothing is lost, and nothing left behind.

UML_TEST_LIVES plays another number of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.stand_in import Bench, bench, model
from tests.waiting import alive, until
from uml.core.errors import Cancelled, LoadFailed, WorkerDied
from uml.runtime.observer import Unobserved
from uml.runtime.scheduling.policy import Policy

LIVES = int(os.environ.get("UML_TEST_LIVES", "200"))
ROOM = 2
POLICY = Policy(turn_s=0.3, idle_unload_s=1.0, retry_s=0.05, deaths=0)
NAMES = st.sampled_from(["a", "b", "c"])

ACTS = st.one_of(
    st.tuples(st.just("ask"), NAMES, st.sampled_from([0.0, 0.02, 0.1])),
    st.tuples(st.just("leave"), NAMES, st.sampled_from([0.0, 0.05, 0.3])),
    st.tuples(st.just("load"), NAMES, st.just(0.0)),
    st.tuples(st.just("pin"), NAMES, st.just(0.0)),
    st.tuples(st.just("unpin"), NAMES, st.just(0.0)),
    st.tuples(st.just("unload"), NAMES, st.just(0.0)),
    st.tuples(st.just("kill"), NAMES, st.just(0.0)),
    st.tuples(st.just("wait"), NAMES, st.sampled_from([0.05, 0.4])),
)


class Census(Unobserved):
    """Counts workers that live at the same time."""

    def __init__(self) -> None:
        self.living: list[str] = []
        self.most = 0

    def load_started(self, model: str, engine: str) -> None:
        assert model not in self.living, "one worker a model"
        self.living.append(model)
        self.most = max(self.most, len(self.living))

    def worker_exited(self, model: str, engine: str, exit_code: int | None) -> None:
        self.living.remove(model)


class Life:
    """One sequence of acts, all under way at the same time."""

    def __init__(self, office: Bench) -> None:
        self.office = office
        self.pids: set[int] = set()

    async def do(self, act: str, name: str, seconds: float) -> None:
        supervisor, wanted = self.office.supervisor, model(name)
        self.pids |= {status.pid for status in supervisor.status() if status.pid}
        with suppress(WorkerDied, Cancelled, LoadFailed):
            if act == "ask":
                async with supervisor.lease(wanted):
                    await asyncio.sleep(seconds)  # the length of an answer, drawn with the life
            elif act == "leave":
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds), supervisor.lease(wanted):
                        await asyncio.sleep(60)
            elif act in ("load", "pin"):
                # All of them pinned would leave no room for anybody, which is an error of its own.
                await supervisor.load(wanted, pin=act == "pin" and name == "a")
            elif act == "unpin":
                supervisor.unpin(wanted)
            elif act == "unload":
                await supervisor.unload([name])
            elif act == "kill":
                for status in supervisor.status():
                    if status.model == name and status.pid:
                        with suppress(ProcessLookupError):
                            os.kill(status.pid, signal.SIGKILL)


async def live(folder: Path, acts: list[tuple[str, str, float]]) -> None:
    census = Census()
    async with bench(folder, room_for=ROOM, observer=census, policy=POLICY) as office:
        life, tasks = Life(office), []
        for act, name, seconds in acts:
            if act == "wait":
                await asyncio.sleep(seconds)  # the time between two acts, drawn with the life
            else:
                tasks.append(asyncio.ensure_future(life.do(act, name, seconds)))
                await asyncio.sleep(0)
        async with asyncio.timeout(300):  # a law is that it ends, and not how soon
            await asyncio.gather(*tasks)
        assert office.supervisor.queue() == ()
        assert not any(status.in_flight for status in office.supervisor.status())
        assert census.most <= ROOM
        # Whatever was: each can be loaded, and what is idle leaves by itself.
        for name in "abc":
            assert (await office.supervisor.load(model(name))).state == "ready"
            office.supervisor.unpin(model(name))
        life.pids |= {status.pid for status in office.supervisor.status() if status.pid}
        await until(lambda: not [status for status in office.supervisor.status() if status.state != "failed"])
    assert census.living == []
    assert not any(alive(pid) for pid in life.pids)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_real_workers_obey_the_laws_too() -> None:
    """Starts some processes for each life: two seconds on an idle machine."""

    @settings(max_examples=LIVES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(ACTS, min_size=3, max_size=10))
    def lives(acts: list[tuple[str, str, float]]) -> None:
        with tempfile.TemporaryDirectory(prefix="uml") as folder:
            asyncio.run(live(Path(folder), acts))

    lives()
