"""What stands inside a parameter is checked before an engine could take a default for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests import pictures
from uml.core.errors import BadRequest
from uml.engines import builtin
from uml.generation import Endpoint, check, prepare

LLAMA = builtin()["llamacpp"].spec
GOOD = pictures.url(pictures.png())
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def said(**body: Any) -> dict[str, Any]:
    prepared = prepare(check("chat", {"messages": HELLO, **body}), LLAMA)
    return prepared.body or body


def fault(endpoint: Endpoint = "chat", **body: Any) -> tuple[str | None, str]:
    base: dict[str, Any] = {"messages": HELLO} if endpoint == "chat" else {"prompt": "a"}
    with pytest.raises(BadRequest) as refused:
        check(endpoint, {**base, **body})
    return refused.value.param, refused.value.message


def test_one_function_is_chosen_by_leaving_out_the_others() -> None:
    tools = [tool("clock"), tool("weather")]
    choice = {"type": "function", "function": {"name": "weather"}}
    assert said(tools=tools, tool_choice=choice) == {"messages": HELLO, "tools": tools[1:], "tool_choice": "required"}
    for word in ("none", "auto", "required"):
        assert said(tools=tools, tool_choice=word)["tool_choice"] == word


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [tool("a"), {"type": "web_search"}]}, "tools[1]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"function": {"name": 5}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "a", "parameters": "x"}}]}, "tools[0].function.parameters"),
        ({"tools": [{"function": {"name": "a", "description": 5}}]}, "tools[0].function.description"),
        ({"tool_choice": {"type": "function", "function": {"name": "b"}}, "tools": [tool("a")]},
         "tool_choice.function.name"),
        ({"tool_choice": {"type": "function"}, "tools": [tool("a")]}, "tool_choice"),
        ({"tool_choice": "a", "tools": [tool("a")]}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "auto", "tools": "a"}, "tools"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
         "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_object", "schema": 5}}, "response_format.schema"),
        ({"logit_bias": 5}, "logit_bias"),
        ({"logit_bias": {"5": "x"}}, "logit_bias"),
        ({"logit_bias": [[1, 2, 3]]}, "logit_bias"),
        ({"lora": [5]}, "lora[0]"),
        ({"lora": [{"id": 0, "scale": "x"}]}, "lora[0].scale"),
        ({"logprobs": 5}, "logprobs"),
        ({"stop": [[[]]]}, "stop"),
    ],
)  # fmt: skip
def test_other_shapes_are_refused_by_their_path(body: dict[str, Any], param: str) -> None:
    assert fault(**body)[0] == param


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (5, ""),
        ({"content": "a"}, ".role"),
        ({"role": "", "content": "a"}, ".role"),
        ({"role": "user"}, ".content"),
        ({"role": "user", "content": 5}, ".content"),
        ({"role": "user", "content": ["a"]}, ".content[0]"),
        ({"role": "user", "content": [{"type": "text"}]}, ".content[0].text"),
    ],
)
def test_messages_have_a_role_and_content(message: Any, path: str) -> None:
    assert fault(messages=[*HELLO, message])[0] == f"messages[1]{path}"


def test_no_engine_is_sent_for_an_image() -> None:
    """It would fetch it, from the network or from this machine's disk."""
    for url in ("http://169.254.169.254/", "https://example.org/a.png", "file:///etc/passwd", None):
        part = {"type": "image_url", "image_url": {"url": url}}
        assert fault(messages=[{"role": "user", "content": [part]}])[0] == "messages[0].content[0].image_url.url"
    check("chat", {"messages": [pictures.seen("What is this?", pictures.png())]})
    check("chat", {"messages": [{"role": "user", "content": [{**pictures.part(b""), "image_url": GOOD}]}]})


def test_images_are_counted_and_their_pixels_added_up() -> None:
    small, large = pictures.gif(4, 4), pictures.gif(8192, 8192)
    check("chat", {"messages": [pictures.seen("What?", *[small] * 64), HELLO[0]]})
    param, message = fault(messages=[pictures.seen("What?", *[small] * 60), pictures.seen("And?", *[small] * 5)])
    assert (param, "image 65 of the request" in message) == ("messages[1].content[4].image_url.url", True)
    check("chat", {"messages": [pictures.seen("What?", large, large)]})
    param, message = fault(messages=[pictures.seen("What?", large, large, small)])
    assert (param, "134217744 pixels" in message) == ("messages[0].content[2].image_url.url", True)


def test_good_shapes_pass() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    for wanted in ({"type": "text"}, {"type": "json_object"}, {"type": "json_object", "schema": {}}, schema):
        assert said(response_format=wanted)["response_format"] == wanted
    for bias in ({"5": 1, "word": -1.5}, [[5, False], ["word", 2]], {}):
        assert said(logit_bias=bias)["logit_bias"] == bias
    assert said(lora=[{"id": 0, "scale": 0.5}, {"id": 1}])["lora"]


def test_prompts_are_texts_or_tokens() -> None:
    bad: list[Any] = [5, [], [[5], 6], [["a"]], [-1], [1 << 31], [1.5], {}]
    for prompt in bad:
        assert fault("completion", prompt=prompt)[0] == "prompt"
    empties: list[Any] = ["", ["a", ""], [[]]]
    for empty in empties:
        assert fault("completion", prompt=empty, n=2)[0] == "prompt"
        check("completion", {"prompt": empty})
    good: list[Any] = ["a", ["a", 5], [5, 6], [[5], "a"], [[5], [6]]]
    for prompt in good:
        check("completion", {"prompt": prompt})


def test_what_is_refused_is_quoted_however_deep_it_is() -> None:
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    assert "nested too deeply" in fault(stop=[deep])[1]
    assert len(fault(stop=5, user="a" * 100_000)[1]) < 200


def test_probabilities_are_asked_for_in_the_engines_way() -> None:
    assert said(logprobs=True)["top_logprobs"] == said(logprobs=True, top_logprobs=0)["top_logprobs"] == 1
    assert said(logprobs=True, top_logprobs=3)["top_logprobs"] == 3
    assert "top_logprobs" not in said(logprobs=False)
    for given, asked in ((0, 1), (1, 1), (4, 4)):
        prepared = prepare(check("completion", {"prompt": "a", "logprobs": given}), LLAMA)
        assert prepared.body == {"prompt": "a", "logprobs": asked}
