"""An answer that llama.cpp cannot part: its server gives an error in its place, in streams too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateway.server import Server, ask, events

TEMPLATE = (
    "{# <|tool_calls_section_begin|> <|tool_call_begin|> #}"
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor %}"
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


def test_the_error_says_what_to_do(server: Server, stranger: str) -> None:
    asked = ask(stranger, "What is the weather in Oslo?", temperature=0, max_tokens=16)
    reply = server.post("/v1/chat/completions", asked)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["details"]["model"]) == (502, "unreadable_answer", stranger)
    assert "/v1/completions" in error["message"] and "peg-native" in error["message"]
    assert "unreadable_answer" in server.post("/v1/chat/completions", {**asked, "stream": True}).text


def test_a_completion_of_the_same_model_is_taken_as_it_is(server: Server, stranger: str) -> None:
    reply = server.post("/v1/completions", {"model": stranger, "prompt": "The sky is", "max_tokens": 4, "stream": True})
    assert events(reply.text)[-1] == "[DONE]"
