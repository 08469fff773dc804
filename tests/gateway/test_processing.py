"""What plug-ins do with requests and answers, and what becomes of those that fail at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from uml.core.errors import BadRequest
from uml.core.guard import Guard
from uml.gateway.processing import Processing, processing
from uml.plugins.load import Plugins

Before = Callable[[dict[str, Any]], Any]
Pieces = Callable[[str, bool], Any]


class Made:
    """A processor made of two functions."""

    name = "made"

    def __init__(self, before: Before = lambda body: None, pieces: Pieces | None = None, fault: str = "") -> None:
        self._before, self._pieces, self._fault = before, pieces, fault

    def before(self, endpoint: str, body: dict[str, Any]) -> Any:
        return self._before(body)

    def after(self, endpoint: str, body: Mapping[str, Any]) -> Any:
        if self._fault:
            raise RuntimeError(self._fault)
        return self._pieces


def steps(*processors: Made, endpoint: Any = "chat") -> Processing:
    plugins = Plugins()
    plugins.processors += [(Guard(f"p{place}"), one) for place, one in enumerate(processors)]
    found = processing(plugins, endpoint)
    assert found is not None
    return found


def raises(*values: Any) -> Any:
    raise ValueError("no good")


def chat(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


async def test_each_gets_what_the_one_before_has_made() -> None:
    made = steps(Made(lambda body: {**body, "a": 1}), Made(lambda body: {**body, "b": body["a"] + 1}), Made())
    body, raw = await made.before({"model": "m"}, b"as it came")
    assert body == {"model": "m", "a": 1, "b": 2} and raw == b'{"model":"m","a":1,"b":2}'
    assert await steps(Made()).before({"model": "m"}, b"as it came") == ({"model": "m"}, b"as it came")
    assert processing(Plugins(), "chat") is None


async def test_one_that_fails_is_left_out_with_a_notice_and_one_that_refuses_refuses() -> None:
    made = steps(Made(raises), Made(lambda body: "text"), Made(lambda body: {**body, "c": 3}))
    body, _ = await made.before({}, b"")
    assert body == {"c": 3}
    first, second = made.notices
    assert "the plug-in p0 is left out: before() raised ValueError: no good" in first["reason"]
    assert "before() gives str" in second["reason"]

    def refuse(body: dict[str, Any]) -> None:
        raise BadRequest("not here", param="messages")

    with pytest.raises(BadRequest, match="not here"):
        await steps(Made(refuse)).before({}, b"")
    with pytest.raises(BadRequest, match="is no JSON"):
        await steps(Made(lambda body: {"a": {1, 2}})).before({}, b"")


def test_pieces_go_through_all_of_them_and_the_last_may_add() -> None:
    def loud(text: str, last: bool) -> str:
        return text.upper()

    def ended(text: str, last: bool) -> str:
        return text + "!" * last

    answer = steps(Made(pieces=loud), Made(pieces=ended)).answer({}, None)
    assert answer is not None
    events = [chat("one "), chat("two"), chat("", "stop"), {"choices": []}, {"choices": [{"index": 0}]}]
    for event in events:
        answer.apply(event)
    assert [event["choices"][0]["delta"]["content"] for event in events[:3]] == ["ONE ", "TWO", "!"]
    whole = {"choices": [{"index": 0, "message": {"content": "all"}, "finish_reason": "stop"}]}
    fresh = steps(Made(pieces=loud), Made(pieces=ended)).answer({}, None)
    assert fresh is not None
    fresh.apply(whole)
    assert whole["choices"][0]["message"] == {"content": "ALL!"}


def test_answers_live_on_without_those_that_fail() -> None:
    made = steps(Made(fault="broken"), Made(pieces=raises), Made(pieces=lambda text, last: 5), Made())
    answer = made.answer({}, None)
    assert answer is not None
    for text in ("one", "two"):
        event = chat(text)
        answer.apply(event)
        assert event == chat(text)


def test_what_rewrites_already_comes_first_and_vectors_are_left_alone() -> None:
    class Inner:
        def apply(self, value: dict[str, Any]) -> None:
            value["choices"][0]["delta"]["content"] += "+"

    inner = Inner()
    answer = steps(Made(pieces=lambda text, last: f"<{text}>")).answer({}, inner)
    assert answer is not None
    event = chat("a")
    answer.apply(event)
    assert event == chat("<a+>")
    assert steps(Made(), endpoint="embedding").answer({}, inner) is inner
