"""What each part of the gateway costs: one chat request with one token, part by part, in one process.

python -m benchmarks.gateway_parts
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from benchmarks.common import ask, chat, folder, median, table
from uml.access import Guard
from uml.config import Settings
from uml.gateway.app import Application
from uml.gateway.figures import count
from uml.gateway.openai import resolve
from uml.gateway.wire import Call, Listener, Message, parse_object
from uml.generation import check, prepare
from uml.house import House
from uml.runtime.workers.channel import Channel
from uml.telemetry.metrics import Metrics

PATH = "/v1/chat/completions"
REPEAT = 2000
ROUNDS = 300
HEADERS = [(b"host", b"127.0.0.1:8080"), (b"content-type", b"application/json"), (b"content-length", b"200")]


def timed(work: Callable[[], object]) -> float:
    """Microseconds of one call, the median of five runs of many."""
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(REPEAT):
            work()
        runs.append((time.perf_counter() - began) / REPEAT * 1e6)
    return median(runs)


async def timed_async(work: Callable[[], Awaitable[object]]) -> float:
    """The same for a coroutine."""
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(REPEAT):
            await work()
        runs.append((time.perf_counter() - began) / REPEAT * 1e6)
    return median(runs)


class InMemory:
    """A client without a socket: gives one body, keeps what is sent."""

    def __init__(self, body: bytes) -> None:
        self.body: bytes | None = body
        self.sent: list[Message] = []
        self._never = asyncio.get_running_loop().create_future()

    async def receive(self) -> Message:
        """The body once, then nothing, as of a client that waits for its answer."""
        if self.body is None:
            await self._never
        message = {"type": "http.request", "body": self.body, "more_body": False}
        self.body = None
        return message

    async def send(self, message: Message) -> None:
        """Keep it."""
        self.sent.append(message)


def scope() -> dict[str, Any]:
    """A request's ASGI scope."""
    return {"type": "http", "method": "POST", "path": PATH, "headers": HEADERS, "query_string": b""}


async def measure() -> list[list[str]]:
    """The rows of the table."""
    body = chat("demo", 1, stream=False)
    with folder() as data:
        settings = Settings.load(
            {"data": str(data), "runtime": str(data / "run"), "options": {"ctx": 1024, "parallel": 4, "threads": 1}},
            os.environ,
        )
        metrics = Metrics()
        async with House.open(settings) as house:
            model = house.library.registry.resolve("demo")
            await house.supervisor.load(model)
            guard = Guard(settings.host, None)
            parsed = parse_object(body)
            checked = check("chat", parsed)
            async with house.supervisor.lease(model) as lease:
                spec, context, channel = lease.spec, lease.plan.options.ctx, lease.channel

            async def leased() -> None:
                async with house.supervisor.lease(model):
                    pass

            async def listened() -> None:
                async with Listener(InMemory(body).receive):
                    pass

            tail = b'"usage":{"completion_tokens":1,"prompt_tokens":15,"total_tokens":16}' + b" " * 1000
            parts = {
                "request object": timed(lambda: Call(scope(), InMemory.receive, InMemory.send, 0.0)),  # type: ignore[arg-type]
                "door: Host, Origin, key": timed(lambda: guard.check(PATH, b"127.0.0.1:8080", b"", b"", b"")),
                "JSON": timed(lambda: parse_object(body)),
                "routing to the model": timed(lambda: resolve(house, "demo")),
                "parameters": timed(lambda: prepare(check("chat", parsed), spec, context)),
                "lease (scheduler)": await timed_async(leased),
                "watching for the client to leave": await timed_async(listened),
                "token counts": timed(lambda: count(tail)),
                "metrics": timed(lambda: _account(metrics)),
            }
            assert checked.choices == 1
            whole = await _whole(Application(house, settings, metrics), channel, body)
    rows = [[name, f"{cost:.1f} us"] for name, cost in parts.items()]
    rows.append(["all of the above", f"{sum(parts.values()):.0f} us"])
    rows.append(["the application, with the worker's share taken off", f"{whole:.0f} us"])
    return rows


def _account(metrics: Metrics) -> None:
    metrics.answer("demo", 0.0, None, 15, 1)
    metrics.request(PATH, "demo", 200, 0.001)


async def _whole(app: Application, channel: Channel, body: bytes) -> float:
    """Microseconds between a request through the application and one straight to the worker, in turn."""
    straight, through = [], []
    for _ in range(ROUNDS):
        straight.append((await ask(channel, body, stream=False)).total_s)
        client = InMemory(body)
        began = time.perf_counter()
        await app(scope(), client.receive, client.send)
        through.append(time.perf_counter() - began)
        assert client.sent[0]["status"] == 200, client.sent
    return (median(through) - median(straight)) * 1e6


def main() -> None:
    """Run and print."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rows = runner.run(measure())
    table("What each part of the gateway costs, per request", ["part", "processor time"], rows)


if __name__ == "__main__":
    main()
