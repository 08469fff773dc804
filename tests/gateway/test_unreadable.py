"""An answer that llama.cpp cannot part: its server gives an error in its place, in streams too; ours gives the text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import pictures
from tests.gateway.server import Server, ask, events, spoken
from tests.random_gguf import seeing

TEMPLATE = (
    "{# <|tool_calls_section_begin|> <|tool_call_begin|> #}"
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The engine takes it for Kimi's, whose marks the demo model never says."""


@pytest.fixture
def stranger(server: Server) -> Iterator[str]:
    """The demo model with a template that is not its own."""
    reply = server.post("/v1/models/load", {"model": "alpha", "options": {"chat_template": TEMPLATE, "ctx": 512}})
    assert reply.status_code == 200, reply.text
    yield "alpha"
    server.post("/v1/models/unload", {"model": "alpha"})


QUESTION = "What is the capital of Japan?"
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}]


def warned(found: dict[str, Any]) -> str:
    (warning,) = found["warnings"]
    assert warning["param"] == "messages" and "peg-native" in warning["reason"]
    return str(warning["reason"])


@pytest.mark.parametrize("more", [{}, {"tools": TOOLS}, {"logprobs": True, "top_logprobs": 2}, {"max_tokens": 1}])
def test_what_the_model_said_is_given_as_it_came(server: Server, stranger: str, more: dict[str, Any]) -> None:
    asked = ask(stranger, QUESTION, temperature=0, **{"max_tokens": 16, **more})
    found = server.post("/v1/chat/completions", asked).json()
    (choice,) = found["choices"]
    said = choice["message"]["content"]
    assert found["object"] == "chat.completion" and choice["message"]["role"] == "assistant"
    assert said.startswith("The") and "given as it came" in warned(found)
    assert found["usage"]["completion_tokens"] > 0
    if "logprobs" in more:
        assert [len(token["top_logprobs"]) for token in choice["logprobs"]["content"]][:3] == [2, 2, 2]
    reply = server.post("/v1/chat/completions", {**asked, "stream": True, "stream_options": {"include_usage": True}})
    first, *values, last = events(reply.text)
    assert spoken(values) == said and last == "[DONE]" and warned(first)
    assert {value["object"] for value in values} == {"chat.completion.chunk"}
    assert values[-1]["usage"] == {
        **found["usage"],
        "prompt_tokens_details": values[-1]["usage"]["prompt_tokens_details"],
    }


def test_several_answers_come_so_too(server: Server, stranger: str) -> None:
    asked = ask(stranger, QUESTION, temperature=0, max_tokens=16, n=2, tfs=0.5)
    found = server.post("/v1/chat/completions", asked).json()
    one, two = (choice["message"]["content"] for choice in found["choices"])
    assert one == two and one.startswith("The")
    assert [warning["param"] for warning in found["warnings"]] == ["tfs", "messages"]
    first, second, *values = events(server.post("/v1/chat/completions", {**asked, "stream": True}).text)
    assert [value["warnings"][0]["param"] for value in (first, second)] == ["tfs", "messages"]
    assert spoken(values).count("The") == 2


def test_a_schema_is_followed_all_the_same(server: Server, stranger: str) -> None:
    city = {"type": "object", "properties": {"city": {"const": "Tokyo"}}, "required": ["city"]}
    schema = {**city, "additionalProperties": False}
    format_ = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    question = "Extract the city as JSON: Anna lives in Tokyo."
    asked = ask(stranger, question, temperature=0, max_tokens=40, response_format=format_)
    found = server.post("/v1/chat/completions", asked).json()
    assert found["choices"][0]["message"]["content"].replace(" ", "") == '{"city":"Tokyo"}'


def test_who_wants_no_less_than_was_asked_gets_the_error(server: Server, stranger: str) -> None:
    asked = ask(stranger, QUESTION, temperature=0, max_tokens=16, strict=True)
    reply = server.post("/v1/chat/completions", asked)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["details"]["model"]) == (502, "unreadable_answer", stranger)
    assert "/v1/completions" in error["message"] and "peg-native" in error["message"]
    assert "unreadable_answer" in server.post("/v1/chat/completions", {**asked, "stream": True}).text


def test_a_completion_of_the_same_model_is_taken_as_it_is(server: Server, stranger: str) -> None:
    reply = server.post("/v1/completions", {"model": stranger, "prompt": "The sky is", "max_tokens": 4, "stream": True})
    assert events(reply.text)[-1] == "[DONE]"


def test_images_stay_with_the_error(server: Server, tmp_path: Path) -> None:
    """They are no part of a text."""
    model, projector = seeing(tmp_path)
    name = server.post("/v1/models/add", {"path": str(model)}).json()["id"]
    options = {"mmproj": str(projector), "ctx": 512, "parallel": 1, "chat_template": TEMPLATE}
    assert server.post("/v1/models/load", {"model": name, "options": options}).status_code == 200
    asked = {"messages": [pictures.seen("w1 w2", pictures.png(60, 40))], "temperature": 0, "max_tokens": 3}
    reply = server.post("/v1/chat/completions", {"model": name, **asked})
    server.post("/v1/models/unload", {"model": name})
    assert reply.json()["error"]["code"] == "unreadable_answer", reply.text
