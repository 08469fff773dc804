"""What the benchmarks share: a server, a worker beside it, a load client, a table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

from uml.config import Settings
from uml.core.engine import Endpoint, Engine
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.hardware import snapshot
from uml.house import Library
from uml.runtime.workers.channel import Channel

CHAT = "/v1/chat/completions"
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Sample:
    """One request as the client saw it: seconds, and pieces of text that came."""

    total_s: float
    first_s: float
    pieces: int


async def ask(channel: Channel, body: bytes, *, stream: bool) -> Sample:
    """Send one chat request and read its answer to the end."""
    began = time.perf_counter()
    response = await channel.request("POST", CHAT, body, stream=stream)
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {await response.read(10_000)!r}")
    if not stream:
        await response.read(1 << 24)
        total = time.perf_counter() - began
        return Sample(total, total, 1)
    first, pieces = 0.0, 0
    async for chunk in response:
        found = chunk.count(b'"content":"')
        if found and not pieces:
            first = time.perf_counter() - began
        pieces += found
    return Sample(time.perf_counter() - began, first, pieces)


async def clients(channel: Channel, body: bytes, *, count: int, each: int, stream: bool) -> tuple[list[Sample], float]:
    """`count` clients, each `each` requests one after the other: the samples and the seconds in all."""

    async def one() -> list[Sample]:
        return [await ask(channel, body, stream=stream) for _ in range(each)]

    began = time.perf_counter()
    samples = await asyncio.gather(*(one() for _ in range(count)))
    return [sample for mine in samples for sample in mine], time.perf_counter() - began


def chat(model: str, max_tokens: int, *, stream: bool, words: int = 8, **more: object) -> bytes:
    """A chat request that generates exactly `max_tokens` tokens."""
    prompt = " ".join(("zebra lantern cloud river stone apple window garden " * words).split()[:words])
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "temperature": 0.8,
        "stream": stream,
        **more,
    }
    return orjson.dumps(body)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder with a short path: sockets will lie in it."""
    path = Path(tempfile.mkdtemp(prefix="umlb"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Server:
    """A running `uml serve`."""

    process: psutil.Process
    endpoint: Endpoint
    ready_s: float
    data: Path

    @property
    def cpu_s(self) -> float:
        """Processor seconds that the gateway alone has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def memory_mib(self) -> float:
        """Resident memory of the gateway alone."""
        return float(self.process.memory_info().rss) / (1 << 20)


@contextlib.contextmanager
def server(
    options: Mapping[str, object] | None = None, settings: Mapping[str, object] | None = None
) -> Iterator[Server]:
    """Start `uml serve` on a free port with a data folder of its own, until the block ends.

    options: of loads, for all models. settings: of the server.
    """
    with folder() as data:
        command = [sys.executable, "-m", "uml", "serve", "--port", "0", "--data", str(data)]
        for name, value in (options or {}).items():
            command += ["--option", f"{name}={value}"]
        began = time.perf_counter()
        environment = {**os.environ, **{f"UML_{name.upper()}": str(value) for name, value in (settings or {}).items()}}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        announced = data / "server.json"
        try:
            while not announced.exists():
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with {process.returncode}")
                time.sleep(0.002)
            ready = time.perf_counter() - began
            url = json.loads(announced.read_text())["url"]
            port = int(url.rsplit(":", 1)[1])
            yield Server(psutil.Process(process.pid), Endpoint("none", host="127.0.0.1", port=port), ready, data)
        finally:
            process.terminate()
            process.wait(10)


@contextlib.asynccontextmanager
async def worker(model: str, options: Mapping[str, object]) -> AsyncIterator[tuple[Channel, float]]:
    """Start the engine by itself, as the server does: the channel to it and the seconds until it was ready."""
    with folder() as data:
        library = Library.open(Settings.load({"data": str(data)}, os.environ))
        plan = library.decide(library.look(model), LoadOptions.parse(options), snapshot())
        async with started(library.engines[plan.engine], plan) as running:
            yield running.channel, running.ready_s


@dataclass(frozen=True, slots=True)
class Running:
    """A worker that is ready. ready_s: seconds until it was."""

    channel: Channel
    process: psutil.Process
    ready_s: float

    @property
    def cpu_s(self) -> float:
        """Processor seconds that it has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    async def idle(self, limit_s: float = 120.0) -> None:
        """Wait until it has done what it does after it is ready, such as to re-order weights."""
        until, used = time.perf_counter() + limit_s, -1.0
        while self.cpu_s - used > 0.05 and time.perf_counter() < until:
            used = self.cpu_s
            await asyncio.sleep(1.0)


@contextlib.asynccontextmanager
async def started(engine: Engine, plan: LoadPlan) -> AsyncIterator[Running]:
    """A worker for a plan, until the block ends."""
    with folder() as scratch:
        endpoint = Endpoint(secrets.token_urlsafe(), socket=scratch / "w.sock")
        launch = engine.launch(plan, endpoint)
        began = time.perf_counter()
        process = subprocess.Popen(
            launch.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **launch.environment},
        )
        assert process.stdin is not None
        process.stdin.write(launch.stdin)
        process.stdin.flush()
        channel = Channel(endpoint)
        try:
            await healthy(channel, launch.health, process=process)
            yield Running(channel, psutil.Process(process.pid), time.perf_counter() - began)
        finally:
            channel.close()
            process.kill()
            process.wait(10)


async def healthy(
    channel: Channel, path: str, limit_s: float = 120.0, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait until a worker answers 200. Raises RuntimeError where its process has ended, TimeoutError."""
    until = time.perf_counter() + limit_s
    while time.perf_counter() < until:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}")
        with contextlib.suppress(OSError):
            response = await channel.request("GET", path)
            await response.read(10_000)
            if response.status == 200:
                return
        await asyncio.sleep(0.002)
    raise TimeoutError(f"not ready within {limit_s:.0f} s")


async def interleaved(
    rounds: int, direct: Callable[[], Awaitable[float]], through: Callable[[], Awaitable[float]]
) -> tuple[list[float], list[float]]:
    """Measure two ways in turn, so that a machine that drifts drifts for both."""
    pairs = [(await direct(), await through()) for _ in range(rounds)]
    return [first for first, _ in pairs], [second for _, second in pairs]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one Markdown table with what it was measured on."""
    print(f"### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    machine = snapshot()
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {machine.processor}, {machine.threads} threads, "
        f"{machine.memory.total_bytes / (1 << 30):.0f} GiB, {platform.system()}, Python {platform.python_version()}\n"
    )
