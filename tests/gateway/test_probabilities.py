"""Probabilities as clients know them."""

from __future__ import annotations

from typing import Any

from uml.gateway.probabilities import shape_for
from uml.generation import check


def token(text: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    likely = [{"token": name, "logprob": value} for name, value in ((text, logprob), *others)]
    return {"token": text, "logprob": logprob, "top_logprobs": likely}


def reply(*tokens: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "text": "", "logprobs": {"content": list(tokens)}}]}


def shaped(value: dict[str, Any], **asked: Any) -> Any:
    body = {"prompt": "a", **asked} if "messages" not in asked else asked
    shape = shape_for(check("chat" if "messages" in asked else "completion", body))
    assert shape is not None
    shape.apply(value)
    return value["choices"][0]["logprobs"]


def test_completions_get_the_four_legacy_lists() -> None:
    assert shaped(reply(token("ab", -1.0, ("c", -2.0)), token("d", -3.0, ("e", -4.0))), logprobs=2) == {
        "tokens": ["ab", "d"],
        "token_logprobs": [-1.0, -3.0],
        "top_logprobs": [{"ab": -1.0, "c": -2.0}, {"d": -3.0, "e": -4.0}],
        "text_offset": [0, 2],
    }
    assert shaped(reply(token("a", -1.0)), logprobs=0)["top_logprobs"] is None


def test_offsets_go_on_from_event_to_event_for_each_choice() -> None:
    shape = shape_for(check("completion", {"prompt": "a", "logprobs": 1}))
    assert shape is not None
    offsets = []
    for event in (reply(token("abc", -1.0)), reply(token("x", -1.0), index=1), reply(token("d", -1.0))):
        shape.apply(event)
        offsets += event["choices"][0]["logprobs"]["text_offset"]
    assert offsets == [0, 0, 3]


def test_a_chat_gets_alternatives_only_when_it_asked_for_them() -> None:
    messages = [{"role": "user", "content": "a"}]
    assert shaped(reply(token("a", -1.0)), messages=messages, logprobs=True)["content"][0]["top_logprobs"] == []
    for asked in ({}, {"logprobs": False}, {"logprobs": True, "top_logprobs": 2}):
        assert shape_for(check("chat", {"messages": messages, **asked})) is None


def test_what_has_no_probabilities_stays_as_it_is() -> None:
    own = {"prob": 0.5, "top_probs": []}
    assert shaped({"choices": [{"index": 0, "logprobs": {"content": [own]}}]}, logprobs=1) == {"content": [own]}
    assert shaped({"choices": [{"index": 0, "logprobs": None}]}, logprobs=1) is None
    assert shape_for(check("completion", {"prompt": "a"})) is None
