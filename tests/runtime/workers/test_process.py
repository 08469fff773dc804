"""One worker process: how it is stopped, and what it leaves behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest
import uvloop

from tests.runtime.stand_in import DEMO, StandIn, bench, flags, machine, plan
from tests.waiting import alive, until
from uml.core.engine import Endpoint
from uml.core.errors import LoadFailed
from uml.runtime.workers.logs import LIMIT_BYTES, WorkerLog
from uml.runtime.workers.process import WorkerProcess


def process(folder: Path, *words: str, stop_limit_s: float = 0.2) -> WorkerProcess:
    decided = plan(DEMO, flags(*words, engine="stand-in"), machine(1 << 30), [])
    endpoint = Endpoint(key="k", socket=folder / "1-1.sock")
    return WorkerProcess(
        StandIn(), decided, endpoint, WorkerLog(folder, "demo"), folder / "1-1.worker", 10.0, stop_limit_s=stop_limit_s
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_worker_that_ignores_the_end_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker = process(tmp_path, "ignore-stop")
    life = asyncio.ensure_future(worker.run())
    await worker.ready.wait()
    assert worker.state == "ready"
    assert worker.pid
    worker.stop()
    worker.stop()
    with caplog.at_level(logging.WARNING):
        ending = await life
    assert (ending.exit_code, ending.error, worker.state) == (-9, None, "ended")
    assert "did not stop in 0.2 s and is killed" in caplog.text
    assert not alive(worker.pid)
    assert names(tmp_path) == ["demo.log"]


async def test_a_worker_that_listens_to_its_end_goes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Told twice to end, it would have its coverage written by two threads at once, which has crashed it.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    worker = process(tmp_path, stop_limit_s=50)
    life = asyncio.ensure_future(worker.run())
    await worker.ready.wait()
    worker.stop()
    ending = await life
    assert ending.error is None
    # By the end of its input or by the signal, whichever it meets first; only after the limit it would be killed.
    assert ending.exit_code in (0, -signal.SIGTERM), worker.log.tail()


async def test_how_far_a_load_is_the_worker_itself_may_say(tmp_path: Path) -> None:
    worker = process(tmp_path, "say=loaded 3 of 4 modules", "hang")
    # As of weights that go to a GPU: the process itself never holds so much.
    worker.meter.total_bytes = 1 << 40
    life = asyncio.ensure_future(worker.run())
    await until(lambda: worker.look().percent >= 75)
    worker.stop()
    await life


async def test_one_that_is_told_before_it_is_born_ends_without_a_word(tmp_path: Path) -> None:
    worker = process(tmp_path, "hang")
    worker.stop()
    ending = await worker.run()
    assert ending.error is None
    assert not worker.ready.is_set()


@pytest.mark.parametrize("words", [["grandchild"], ["grandchild", "exit=0"]])
async def test_children_of_a_worker_go_with_it_and_do_not_delay_the_news(tmp_path: Path, words: list[str]) -> None:
    worker = process(tmp_path, *words)
    life = asyncio.ensure_future(worker.run())
    if "exit=0" not in words:
        await worker.ready.wait()
        worker.stop()
    async with asyncio.timeout(5):
        ending = await life
    assert (ending.error is None) == ("exit=0" not in words)
    grandchild = int(worker.log.tail().split()[1])
    await until(lambda: not alive(grandchild))


async def test_cancelling_its_task_kills_it(tmp_path: Path) -> None:
    worker = process(tmp_path, "ignore-stop")
    life = asyncio.ensure_future(worker.run())
    await worker.ready.wait()
    life.cancel()
    await asyncio.wait({life})
    assert worker.pid
    await until(lambda: not alive(worker.pid or 0))
    assert names(tmp_path) == ["demo.log"]


async def test_a_record_that_cannot_be_written_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "1-1.worker").mkdir()
    worker = process(tmp_path)
    ending = await worker.run()
    assert isinstance(ending.error, LoadFailed)
    assert worker.pid
    await until(lambda: not alive(worker.pid or 0))


def test_the_whole_life_on_the_loop_of_the_server(tmp_path: Path) -> None:
    async def story() -> None:
        worker = process(tmp_path, "grandchild")
        life = asyncio.ensure_future(worker.run())
        await worker.ready.wait()
        assert await worker.channel.health() == 200
        worker.stop()
        assert (await life).error is None
        async with bench(tmp_path) as office, office.supervisor.lease(DEMO) as lease:
            assert lease.loaded

    uvloop.run(story())


async def test_a_worker_that_talks_too_much_does_not_fill_the_disk(tmp_path: Path) -> None:
    worker = process(tmp_path, "chatty")
    life = asyncio.ensure_future(worker.run())
    await worker.ready.wait()
    assert worker.log.size() > LIMIT_BYTES
    worker.log.bound()
    assert worker.log.size() == 0
    assert worker.log.tail().startswith("x")  # of the one before
    await worker.channel.health()
    assert LIMIT_BYTES < worker.log.size() < LIMIT_BYTES + (2 << 20)  # it goes on at the start of the file
    worker.stop()
    await life


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = WorkerLog(tmp_path, "demo")
    assert (log.tail(), log.size(), log.lines(3)) == ("", 0, "")
    log.bound()
    log.path.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)) + b"\xff last")
    assert log.lines(2) == "line 99999\n\ufffd last"
    assert log.lines(0) == ""
    assert log.tail(100).startswith("line 99")
    os.close(log.begin("it"))
    # The next run has not said a word: its cause is not to be found in what another one wrote.
    assert log.tail() == ""
    before, heading = log.lines(2).splitlines()
    assert before == "\ufffd last" and heading.endswith(" it")


async def test_the_log_is_kept_small_while_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.runtime.workers.process.BEAT_S", 0.01)
    worker = process(tmp_path, "chatty")
    life = asyncio.ensure_future(worker.run())
    await worker.ready.wait()
    await until(lambda: worker.log.size() == 0)
    worker.stop()
    await life


async def test_its_environment_is_ours_and_the_engines(tmp_path: Path) -> None:
    worker = process(tmp_path, "environment", "exit=0")
    await worker.run()
    assert "STAND_IN=yes" in worker.log.tail()
    assert f"PATH={os.environ['PATH']}" in worker.log.tail()
