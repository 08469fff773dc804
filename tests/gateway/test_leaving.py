"""Who leaves llama.cpp in mid-answer frees its slot: told by the engine's own counters."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.waiting import GLANCE_S, PATIENCE_S
from uml.config import Settings
from uml.gateway.app import Application
from uml.gateway.wire import Message
from uml.house import House
from uml.telemetry.metrics import Metrics

PATH = "/v1/chat/completions"
ASKED = 1800
"""Tokens that nobody waits for: a second or two of work."""


class Visitor:
    """A client without a socket, that leaves when it is told to."""

    def __init__(self, **body: Any) -> None:
        self.body = orjson.dumps({"model": "demo", "ignore_eos": True, **body})
        self.leaving = asyncio.Event()
        self.sent: list[Message] = []
        self._given = False

    async def receive(self) -> Message:
        if not self._given:
            self._given = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.leaving.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def visit(self, app: Application) -> None:
        headers = [(b"host", b"localhost"), (b"content-length", str(len(self.body)).encode())]
        await app({"type": "http", "method": "POST", "path": PATH, "headers": headers}, self.receive, self.send)


class Engine:
    """The gateway over one real worker, and that worker's own figures."""

    def __init__(self, house: House, app: Application) -> None:
        self.house, self.app = house, app

    async def metric(self, name: str) -> float:
        model = self.house.library.find("demo")
        async with self.house.supervisor.lease(model, slots=0) as lease:
            response = await lease.channel.request("GET", "/metrics")
            text = (await response.read(1 << 20)).decode()
        (value,) = re.findall(rf"^llamacpp:{name} (\S+)$", text, re.MULTILINE)
        return float(value)

    async def until(self, name: str, value: float) -> None:
        async with asyncio.timeout(PATIENCE_S):
            # The engine is another process: it can only be asked.
            while await self.metric(name) != value:  # noqa: ASYNC110
                await asyncio.sleep(GLANCE_S)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    options = {"ctx": 2048, "parallel": 2, "threads": 1, "batch": 64, "ubatch": 64}
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    settings = Settings.load({"data": str(tmp_path / "data"), "options": options}, environ)
    async with House.open(settings) as house:
        await house.supervisor.load(house.library.find("demo"))
        yield Engine(house, Application(house, settings, Metrics()))


def talk(words: int = 3) -> list[dict[str, str]]:
    return [{"role": "user", "content": "zebra lantern cloud " * words}]


@pytest.mark.parametrize("streamed", [False, True])
async def test_in_mid_answer_while_another_is_busy(engine: Engine, streamed: bool) -> None:
    stays = Visitor(messages=talk(), stream=True, max_tokens=ASKED)
    goes = Visitor(messages=talk(2), stream=streamed, max_tokens=ASKED)
    staying = asyncio.create_task(stays.visit(engine.app))
    going = asyncio.create_task(goes.visit(engine.app))
    await engine.until("requests_processing", 2)
    goes.leaving.set()
    await going
    await engine.until("requests_processing", 1)
    assert not staying.done(), "it was over before the other left: this tells nothing"
    stays.leaving.set()
    await staying
    await engine.until("requests_processing", 0)
    assert await engine.metric("tokens_predicted_total") < ASKED


async def test_in_the_middle_of_a_prompt(engine: Engine) -> None:
    goes = Visitor(messages=talk(390), stream=True, max_tokens=1)
    going = asyncio.create_task(goes.visit(engine.app))
    await engine.until("requests_processing", 1)
    goes.leaving.set()
    await going
    await engine.until("requests_processing", 0)
    read = await engine.metric("prompt_tokens_total")
    assert read < 1800, "it read the prompt to its end for nobody"


async def test_the_same_answer_streamed_or_not(engine: Engine) -> None:
    """An answer that was put together from a stream is the one that the engine gives at once."""
    question: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of Japan?"}]}
    asked = {**question, "temperature": 0, "logprobs": True, "top_logprobs": 2, "ignore_eos": False, "max_tokens": 20}
    joined = Visitor(**asked)
    await joined.visit(engine.app)
    async with engine.house.supervisor.lease(engine.house.library.find("demo")) as lease:
        response = await lease.channel.request("POST", PATH, orjson.dumps(asked))
        direct = orjson.loads(await response.read(1 << 20))
    through = orjson.loads(joined.sent[1]["body"])
    assert joined.sent[0]["status"] == 200
    assert through["choices"][0]["message"] == direct["choices"][0]["message"]
    assert set(direct) - {"timings"} <= set(through)
    assert through["object"] == direct["object"]
    assert through["usage"]["completion_tokens"] == direct["usage"]["completion_tokens"]
    tokens = [[entry["token"] for entry in reply["choices"][0]["logprobs"]["content"]] for reply in (through, direct)]
    # At once it also lists the end of the turn, which is no part of the text; OpenAI does not.
    assert tokens[0] == [token for token in tokens[1] if token]
    assert through["choices"][0]["finish_reason"] == direct["choices"][0]["finish_reason"] == "stop"
