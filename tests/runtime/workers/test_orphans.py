"""Workers whose server was killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.stand_in import DEMO, bench
from tests.waiting import alive, until
from uml.runtime.workers.orphans import Record, birth, sweep

ROOT = Path(__file__).parents[3]
SERVER = """
import asyncio, sys
from pathlib import Path
from tests.runtime.stand_in import DEMO, bench, flags
async def main():
    async with bench(Path(sys.argv[1])) as office:
        await office.supervisor.load(DEMO, flags(*sys.argv[3:], engine=sys.argv[2]))
        print(office.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def killed_server(folder: Path, engine: str, *words: str) -> int:
    """Start a server with one worker, kill the server, and give back the worker's process."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(folder), engine, *words, cwd=ROOT, stdout=subprocess.PIPE
    )
    assert server.stdout
    pid = int(await server.stdout.readline())
    assert alive(pid)
    server.send_signal(signal.SIGKILL)
    await server.wait()
    return pid


async def test_a_worker_goes_with_its_server(tmp_path: Path) -> None:
    pid = await killed_server(tmp_path, "fake")
    await until(lambda: not alive(pid))


async def test_a_worker_that_stayed_is_ended_by_the_next_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pid = await killed_server(tmp_path, "stand-in", "ignore-stop")
    assert alive(pid)
    async with bench(tmp_path) as office:
        await until(lambda: not alive(pid))
        assert "ended the worker of demo that an earlier server had left behind" in caplog.text
        assert list(office.run.iterdir()) == []
        await office.supervisor.load(DEMO)


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def test_only_workers_of_dead_servers_are_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    ours, it = os.getpid(), sleeper.pid
    of_living = tmp_path / f"{ours}-1.worker"
    Record(it, birth(it), ours, birth(ours), "kept").write(of_living)
    Record(it, "another birth", 0, "", "reused number").write(tmp_path / "0-2.worker")
    Record(it, birth(it), ours, "another birth", "reused server").write(tmp_path / f"{ours}-3.worker")
    # Cut short: the name alone tells whose they were. One of our own number is from before we began.
    for name in (f"{os.getppid()}-4.worker", f"{ours}-5.worker"):
        (tmp_path / name).write_text("{")
    (tmp_path / "0-6.worker").write_text(json.dumps({"pid": it}))
    for name in (f"{ours}-1.sock", "0-2.sock", f"{ours}-7.sock"):
        (tmp_path / name).touch()
    for name in (f"{ours}-1", "0-2", f"{ours}-7", f"{os.getppid()}-8", "not ours"):
        (tmp_path / name).mkdir()
    assert alive(it)
    assert sweep(tmp_path) == ("reused server",)
    assert sleeper.wait() == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{ours}-1.sock",
        f"{ours}-1",
        f"{os.getppid()}-8",
        "not ours",
        of_living.name,
        f"{os.getppid()}-4.worker",
    }


def test_the_birth_of_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    first = birth(sleeper.pid)
    assert first
    assert first == birth(sleeper.pid)
    assert first != birth(os.getpid()) or sleeper.pid == os.getpid()
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert birth(sleeper.pid) == ""  # a zombie
    sleeper.wait()
    assert birth(sleeper.pid) == ""
