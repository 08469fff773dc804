"""The parts that need no server."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from uml.core.errors import BadRequest, ContextLengthExceeded, EngineError, NotFound, Overloaded, UmlError
from uml.gateway.choices import Events, Sums, join, last_event
from uml.gateway.figures import count
from uml.gateway.refusal import refusal
from uml.gateway.sink import Sink
from uml.gateway.wire import encoded, event, parse_object, text_field


def refused(status: int, error: object, **asked: object) -> UmlError:
    return refusal(status, json.dumps({"error": error}).encode(), "demo", asked)


def test_an_engines_words_become_ours() -> None:
    long = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 5, "message": "..."}
    found = refused(400, long, prompt="a")
    assert isinstance(found, ContextLengthExceeded)
    assert (found.param, found.details) == ("prompt", {"prompt_tokens": 9, "context_length": 5})
    field = refused(400, {"code": 400, "message": "Field 'top_k': [json.exception.type_error.302] type must be number"})
    assert (field.param, field.message) == ("top_k", "top_k: type must be number")
    for name in ("grammar", "json_schema", "tools", "response_format"):
        assert refused(400, {"message": "failed to parse grammar"}, **{name: "..."}).param == name
    schema = refused(400, {"message": "Automatic parser generation failed: JSON schema error at #: unrecognized type"})
    assert (schema.param, schema.message[:11]) == ("response_format", "JSON schema")
    tools = refused(500, {"code": 500, "message": "Failed to parse tools: Expected an array"})
    assert isinstance(tools, BadRequest) and tools.param == "tools"
    images = refused(500, {"code": 500, "message": "image input is not supported - hint: you may need the mmproj"})
    assert isinstance(images, BadRequest) and images.param == "messages"
    batch = "input (9001 tokens) is too large to process. increase the physical batch size (current batch size: 512)"
    step = refused(500, {"code": 500, "type": "server_error", "message": batch}, input="a")
    assert isinstance(step, ContextLengthExceeded) and "larger ubatch" in step.message
    assert (step.param, step.details) == ("input", {"prompt_tokens": 9001, "context_length": 512})
    unsupported = refused(501, {"code": 501, "type": "not_supported_error", "message": "no"}, input="a")
    assert isinstance(unsupported, BadRequest) and '{"embeddings": true}' in unsupported.message
    assert "no images" in refused(501, {"message": "no images"}).message
    assert isinstance(refused(404, {"message": "File Not Found"}), NotFound)
    assert isinstance(refused(503, {"code": 503, "message": "Loading model"}), Overloaded)
    assert isinstance(refused(401, {"code": 401, "message": "Invalid API Key"}), EngineError)
    assert isinstance(refused(500, {"message": ""}), EngineError)
    assert "plain words" in refused(500, "plain words").message
    assert "<html>" in refusal(500, b"<html>", "demo").message


def test_a_worker_of_ours_says_it_once() -> None:
    told = EngineError("this model", "its logits are not numbers").as_dict()["error"]
    assert refused(502, told).message == "the engine of demo failed: its logits are not numbers"


def test_what_strangers_sent_is_quoted_as_json() -> None:
    for value in ({"number": 10**30}, {"name": "a\udcff"}):
        assert json.loads(encoded(value)) == value
        assert json.loads(event(value)[len("data: ") :]) == value


def test_a_text_goes_by_one_of_its_names() -> None:
    assert text_field({"content": "a", "text": None}, "text", "content") == "a"
    for body, param in (({}, "text"), ({"text": 5}, "text"), ({"text": "a", "content": "b"}, "content")):
        with pytest.raises(BadRequest) as refused:
            text_field(body, "text", "content")
        assert refused.value.param == param


def test_bodies_are_objects() -> None:
    assert parse_object(b'{"a": 1}') == {"a": 1}
    with pytest.raises(BadRequest, match=r"line 1, column 6"):
        parse_object(b'{"a":}')


def test_events_come_whole_however_they_were_cut() -> None:
    data = b'data: null\n\n: ping\n\ndata: {"a": 1}\r\n\r\nevent: x\ndata: {"b": 2}\n\ndata: [DONE]\n\n'
    for size in (1, 3, 1000):
        events = Events()
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [value for piece in pieces for value in events.feed(piece)] == [{"a": 1}, {"b": 2}]


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": {"cached_tokens": 1}}


def test_usage_is_summed_once() -> None:
    sums = Sums(n=2)
    # Two prompts with two answers each: every answer tells its own prompt again.
    for prompt in (10, 20):
        for completion in (1, 2):
            sums.take({"usage": usage(prompt, completion), "timings": {"predicted_n": 1, "predicted_ms": 10.0}})
    assert sums.usage is not None
    assert (sums.usage["prompt_tokens"], sums.usage["completion_tokens"], sums.usage["total_tokens"]) == (30, 6, 36)
    assert sums.timings is not None and sums.timings["predicted_per_second"] == 400.0
    last = last_event({"id": "x", "choices": [1]}, sums)
    assert last == {"id": "x", "choices": [], "usage": sums.usage, "timings": sums.timings}
    # An engine that counts everything itself is believed.
    one = Sums(n=2)
    one.take({"usage": usage(10, 8)})
    assert one.usage == usage(10, 8)


def test_streamed_pieces_join_to_a_reply() -> None:
    def piece(index: int, **delta: Any) -> dict[str, Any]:
        return {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta, "finish_reason": None}]}

    def call(**function: str) -> dict[str, Any]:
        return {"index": 0, "id": "c1" if "name" in function else None, "function": function}

    logprobs = {"content": [{"token": "a"}]}
    with_logprobs = {"choices": [{"index": 1, "delta": {"content": "!"}, "logprobs": logprobs}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    reply = join(
        [
            piece(1, role="assistant", content=None),
            piece(0, role="assistant", reasoning_content="hm"),
            piece(0, tool_calls=[call(name="f", arguments='{"a"')]),
            piece(0, tool_calls=[call(arguments=": 1}")]),
            piece(1, content="yes"),
            with_logprobs,
            with_logprobs,
            end,
        ],
        2,
    )
    first, second = reply["choices"]
    assert reply["object"] == "chat.completion" and "usage" not in reply
    assert first["finish_reason"] == "tool_calls" and first["message"]["reasoning_content"] == "hm"
    assert first["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    assert second["message"]["content"] == "yes!!"
    assert second["logprobs"] == {"content": [{"token": "a"}, {"token": "a"}]}


def test_figures_are_found_at_the_end() -> None:
    told = count(b'..."usage":{"completion_tokens":8,"prompt_tokens":15,"total_tokens":23}}\n\ndata: [DONE]')
    assert (told.prompt_tokens, told.completion_tokens) == (15, 8)
    timed = count(b'"timings":{"cache_n":14,"prompt_n":1,"predicted_n":3,"predicted_ms":1.5}')
    assert (timed.prompt_tokens, timed.completion_tokens) == (15, 3)
    assert count(b"nothing").completion_tokens == 0


class Room:
    """A client that reads when it is told to, and a worker that can be made to wait."""

    def __init__(self) -> None:
        import asyncio

        self.open = asyncio.Event()
        self.got: list[bytes] = []
        self.paused = self.closed = False

    async def send(self, message: Any) -> None:
        await self.open.wait()
        self.got.append(message["body"])

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True


async def test_a_sink_waits_for_a_slow_client_and_keeps_the_order() -> None:
    room = Room()
    sink = Sink(room.send, room)  # type: ignore[arg-type]
    sink(b"one")
    assert (room.got, room.paused) == ([], True)
    sink(b"two")
    room.open.set()
    await sink.drained()
    assert (room.got, room.paused) == ([b"one", b"two"], False)
    sink(b"three")
    assert room.got[-1] == b"three" and list(sink.tail) == [b"one", b"two", b"three"]
    sink.close()


async def test_a_sink_stops_at_an_engines_error() -> None:
    room = Room()
    room.open.set()
    sink = Sink(room.send, room)  # type: ignore[arg-type]
    bad = event({"error": {"message": "compute error"}})
    sink(b"fine")
    sink(bad)
    sink(b"more")
    assert (room.got, room.closed, sink.failed) == ([b"fine"], True, bad)
    assert orjson.loads(bad[6:])["error"]


async def test_a_sink_that_is_closed_sends_nothing_more() -> None:
    room = Room()
    sink = Sink(room.send, room)  # type: ignore[arg-type]
    sink(b"one")
    sink.close()
    room.open.set()
    assert room.got == []
