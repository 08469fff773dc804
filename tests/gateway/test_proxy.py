"""What an engine may do in the middle of an answer: a canned worker behind a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from tests.gateway.server import events, spoken
from uml.core.engine import Endpoint
from uml.core.errors import BadRequest, UmlError, WorkerDied
from uml.engines import builtin
from uml.gateway.figures import Figures
from uml.gateway.proxy import Errand, stream, whole
from uml.gateway.wire import Call, Message, event
from uml.generation import check, prepare
from uml.runtime.supervisor import Lease
from uml.runtime.workers.channel import Channel

SPEC = builtin()["llamacpp"].spec


def piece(text: str, index: int = 0) -> bytes:
    return event({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}]})


DONE = b"data: [DONE]\n\n"
FAULT = event({"error": {"code": 500, "message": "compute error", "type": "server_error"}})


class Client:
    """Takes what the server sends."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.ended = False

    async def receive(self) -> Message:
        return await asyncio.Event().wait()  # type: ignore[return-value]  # it stays to the end

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            assert not self.ended
            self.body += message["body"]
            self.ended = not message["more_body"]

    def call(self) -> Call:
        scope = {"method": "POST", "path": "/v1/chat/completions", "headers": []}
        return Call(scope, self.receive, self.send, 0.0)


@asynccontextmanager
async def worker(
    folder: Path, chunks: list[bytes], *, complete: bool = True, status: int = 200
) -> AsyncIterator[Lease]:
    """A worker that answers every request with these chunks, and may end before the answer does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
        for chunk in chunks:
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(0.001)  # so that chunks come one by one, as from an engine
        if complete:
            writer.write(b"0\r\n\r\n")
        writer.close()

    async def fate() -> UmlError:
        return WorkerDied("demo", "the test wants it so")

    path = folder / "w.sock"
    server = await asyncio.start_unix_server(answer, path)
    channel = Channel(Endpoint("key", socket=path))
    async with server:
        yield cast(Lease, SimpleNamespace(channel=channel, model=SimpleNamespace(id="demo"), spec=SPEC, fate=fate))
        channel.close()


def errand(client: Client, **more: Any) -> Errand:
    body = {"messages": [{"role": "user", "content": "hello"}], **more}
    checked = check("chat", body)
    return Errand(client.call(), "/v1/chat/completions", orjson.dumps(body), checked, prepare(checked, SPEC))


Streamed = Callable[..., Any]


@pytest.fixture
def streamed(tmp_path: Path) -> Streamed:
    async def run(chunks: list[bytes], *, complete: bool = True, **more: Any) -> tuple[Client, Figures]:
        client, figures = Client(), Figures()
        async with worker(tmp_path, chunks, complete=complete) as lease:
            await stream(errand(client, stream=True, **more), lease, figures)
        assert client.ended and client.status == 200
        return client, figures

    return run


@pytest.mark.parametrize("n", [1, 2])
async def test_an_engines_error_ends_the_stream_in_our_shape(streamed: Streamed, n: int) -> None:
    client, figures = await streamed([piece("a"), piece("b") + FAULT, piece("c"), DONE], n=n)
    *values, last = events(client.body.decode())
    assert last["error"]["code"] == "engine_error" and "compute error" in last["error"]["message"]
    assert spoken(values) == "ab"
    assert figures.first_s is not None


UNREADABLE = {"code": 500, "message": "The model produced output that does not match the expected peg-x format"}


@pytest.mark.parametrize("n", [1, 2])
async def test_what_is_out_of_an_answer_that_cannot_be_parted_is_kept(streamed: Streamed, n: int) -> None:
    client, _ = await streamed([piece("Well,"), piece(" so") + event({"error": UNREADABLE}), DONE], n=n)
    *values, end, last = events(client.body.decode())
    assert last == "[DONE]" and spoken(values) == "Well, so"
    assert {choice["finish_reason"] for choice in end["choices"]} == {"length"} and len(end["choices"]) == n
    assert "peg-x" in end["warnings"][0]["reason"] and "up to there" in end["warnings"][0]["reason"]


async def test_an_answer_beside_it_that_was_whole_stays_so(streamed: Streamed) -> None:
    whole_one = event({"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]})
    client, _ = await streamed([piece("a"), piece("b", 1) + whole_one, event({"error": UNREADABLE})], n=2)
    *_, end, _ = events(client.body.decode())
    assert [choice["index"] for choice in end["choices"]] == [0]


@pytest.mark.parametrize("n", [1, 2])
async def test_a_call_that_was_begun_is_kept_too(streamed: Streamed, n: int) -> None:
    """Asked once more, it would begin anew behind what the client has of it."""
    begun = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{"}}
    call = event({"choices": [{"index": 0, "delta": {"tool_calls": [begun]}, "finish_reason": None}]})
    client, _ = await streamed([call, event({"error": UNREADABLE})], n=n)
    first, end, last = events(client.body.decode())
    assert first["choices"][0]["delta"]["tool_calls"] == [begun] and last == "[DONE]"
    assert end["choices"][0]["finish_reason"] == "length" and end["warnings"]


async def test_who_is_strict_gets_the_error_behind_what_is_out(streamed: Streamed) -> None:
    client, _ = await streamed([piece("Well,"), event({"error": UNREADABLE})], strict=True)
    first, last = events(client.body.decode())
    assert spoken([first]) == "Well," and last["error"]["code"] == "unreadable_answer"


async def test_what_a_plug_in_held_back_comes_with_the_end(tmp_path: Path) -> None:
    """It is not asked for once more either, though the client has nothing yet."""

    class HoldsBack:
        def __init__(self) -> None:
            self.text = ""

        def apply(self, value: dict[str, Any]) -> None:
            for choice in value["choices"]:
                self.text += choice["delta"].pop("content", "")
                if choice["finish_reason"]:
                    choice["delta"]["content"] = self.text

    client = Client()
    async with worker(tmp_path, [piece("Well,"), event({"error": UNREADABLE})]) as lease:
        await stream(replace(errand(client, stream=True), shape=HoldsBack()), lease, Figures())
    *_, end, last = events(client.body.decode())
    assert spoken([end]) == "Well," and end["choices"][0]["finish_reason"] == "length" and last == "[DONE]"


async def test_an_error_that_is_only_words(streamed: Streamed) -> None:
    client, _ = await streamed([piece("a"), b'data: {"error": "no more"}\n\n'.replace(b": ", b":", 2)])
    assert "no more" in events(client.body.decode())[-1]["error"]["message"]
    client, _ = await streamed([piece("a"), b'data: {"error":{"mess'])
    assert events(client.body.decode())[-1]["error"]["code"] == "engine_error"


@pytest.mark.parametrize("n", [1, 2])
async def test_a_broken_connection_ends_the_stream_with_its_cause(streamed: Streamed, n: int) -> None:
    client, _ = await streamed([piece("a")], complete=False, n=n)
    *_, last = events(client.body.decode())
    assert last["error"]["code"] == "worker_died"


async def test_words_that_look_like_an_error_are_none(streamed: Streamed) -> None:
    client, _ = await streamed([piece('{"error": "quoted"}'), DONE])
    first, last = events(client.body.decode())
    assert (spoken([first]), last) == ('{"error": "quoted"}', "[DONE]")


PROGRESS = event({"choices": [{"index": 0, "delta": {"role": "assistant"}}], "prompt_progress": {"total": 9}})
LONG = [{"role": "user", "content": "word " * 1000}]


@pytest.mark.parametrize("cut", [1, 7, len(PROGRESS), len(PROGRESS) + 9, len(PROGRESS) * 2 + 3])
async def test_what_was_read_of_a_long_prompt_is_not_told_to_who_did_not_ask(streamed: Streamed, cut: int) -> None:
    data = PROGRESS + PROGRESS + piece("a") + piece("b") + DONE
    client, _ = await streamed([data[:cut], data[cut:]], messages=LONG)
    assert client.body == piece("a") + piece("b") + DONE
    client, _ = await streamed([data[:cut], data[cut:]], messages=LONG, return_progress=True)
    assert client.body == data


async def test_an_error_after_a_long_prompt_is_one(streamed: Streamed) -> None:
    client, _ = await streamed([PROGRESS, FAULT], messages=LONG)
    (last,) = events(client.body.decode())
    assert "compute error" in last["error"]["message"]


@pytest.mark.parametrize("n", [1, 2])
async def test_an_answer_that_breaks_off_is_an_error(tmp_path: Path, n: int) -> None:
    async with worker(tmp_path, [piece("a")], complete=False) as lease:
        with pytest.raises(WorkerDied):
            await whole(errand(Client(), n=n), lease)


async def test_errors_before_the_answer_are_raised(tmp_path: Path) -> None:
    said = orjson.dumps({"error": {"code": 400, "message": "Field 'top_k': no", "type": "invalid_request_error"}})
    async with worker(tmp_path, [said], status=400) as lease:
        for n in (1, 2):
            with pytest.raises(BadRequest, match="top_k"):
                await whole(errand(Client(), n=n), lease)
        client = Client()
        with pytest.raises(BadRequest, match="top_k"):
            await stream(errand(client, stream=True), lease, Figures())
        assert client.status == 0
    async with worker(tmp_path, [FAULT]) as lease:
        with pytest.raises(UmlError, match="compute error"):
            await whole(errand(Client(), n=2), lease)
