"""`max_tokens: 0` reads a prompt and says nothing, whatever the engine makes of a 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.gateway.server import Server, ask, events, spoken


@pytest.mark.parametrize("engine", ["llamacpp", "fake"])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_chat_of_no_tokens_counts_its_prompt(
    server: Server, fake: Callable[..., str], engine: str, name: str
) -> None:
    model = "demo" if engine == "llamacpp" else fake()
    one = server.chat(model, **{name: 1}).json()
    answers = 2 if engine == "llamacpp" else 1
    none = server.chat(model, **{name: 0}, n=answers).json()
    assert [choice["finish_reason"] for choice in none["choices"]] == ["length"] * answers
    assert [choice["message"] for choice in none["choices"]] == [{"role": "assistant", "content": ""}] * answers
    read = one["usage"]["prompt_tokens"]
    assert read > 0
    found = {part: none["usage"][part] for part in ("prompt_tokens", "completion_tokens", "total_tokens")}
    assert found == {"prompt_tokens": read, "completion_tokens": 0, "total_tokens": read}


@pytest.mark.parametrize("engine", ["llamacpp", "fake"])
def test_a_stream_of_no_tokens_ends_with_its_figures(server: Server, fake: Callable[..., str], engine: str) -> None:
    model = "demo" if engine == "llamacpp" else fake()
    body = ask(model, max_tokens=0, stream=True, stream_options={"include_usage": True})
    *told, done = events(server.post("/v1/chat/completions", body).text)
    assert done == "[DONE]" and spoken(told) == ""
    assert told[-1]["usage"]["completion_tokens"] == 0 < told[-1]["usage"]["prompt_tokens"]
    ends = [choice["finish_reason"] for value in told for choice in value["choices"] if choice["finish_reason"]]
    assert ends == ["length"]


def test_a_completion_of_no_tokens_has_no_probabilities_either(server: Server) -> None:
    asked: dict[str, Any] = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 0}
    (choice,) = server.post("/v1/completions", {**asked, "logprobs": 2}).json()["choices"]
    assert (choice["text"], choice["finish_reason"], choice["logprobs"]) == ("", "length", None)
    reply = server.post("/v1/completions", asked).json()
    assert reply["usage"]["completion_tokens"] == reply["timings"]["predicted_n"] == 0
