"""vLLM's server as a worker, through the front door: a program that takes its arguments stands in for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.builders import llama_config, write_hf_folder
from tests.engines.served import write_program
from tests.gateway.server import Server, events, running, spoken


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vllm")
    # The tests' own modules lie where a sandbox would not let a worker read.
    flags = {"vllm": str(write_program(folder, "vllm")), "sandbox": "off", "plugins": False}
    with running(folder / "data", **flags) as started:
        yield started


@pytest.fixture(scope="module")
def model(server: Server) -> str:
    folder = write_hf_folder(server.data / "small-model", llama_config())
    found = server.post("/v1/models/add", {"path": str(folder)})
    assert found.status_code == 200, found.text
    model = str(found.json()["id"])
    loaded = server.post("/v1/models/load", {"model": model, "options": {"engine": "vllm", "ctx": 256, "parallel": 2}})
    assert loaded.status_code == 200, loaded.text
    return model


def got(reply: Any) -> dict[str, Any]:
    """What the program says that it was asked."""
    assert reply.status_code == 200, reply.text
    content = reply.json()["choices"][0]["message"]["content"]
    found: dict[str, Any] = json.loads(content[content.index("{") :])
    return found


def test_it_is_started_with_the_plan_and_answers(server: Server, model: str) -> None:
    assert server.worker(model)["engine"] == "vllm"
    reply = server.chat(model, text="hello there", temperature=0.5)
    assert reply.json()["choices"][0]["message"]["content"].startswith("hello there")
    assert reply.json()["usage"]["total_tokens"] == 5
    lines = server.get(f"/v1/models/{model}/log").json()["lines"]
    words = json.loads(next(line for line in lines if line.startswith("started")).split("with ", 1)[1].split(" on ")[0])
    assert words[:2] == ["serve", str(server.data / "small-model")]
    assert words[words.index("--max-model-len") + 1] == "256"
    assert words[words.index("--max-num-seqs") + 1] == "2"
    assert "--uds" in words and not any(word.startswith("--api-key") for word in words)


def test_streams_pass_through(server: Server, model: str) -> None:
    values = events(server.chat(model, text="hello there", stream=True, stream_options={"include_usage": True}).text)
    assert spoken(values).startswith("hello there") and values[-1] == "[DONE]"
    assert values[-2]["usage"]["total_tokens"] == 5


def test_parameters_go_in_its_words(server: Server, model: str) -> None:
    schema = {"type": "object"}
    asked = got(server.chat(model, json_schema=schema, custom_token_bans="5,6", reasoning_budget_tokens=9, top_k=3))
    assert asked["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert asked["logit_bias"] == {"5": -100.0, "6": -100.0}
    guided = got(server.chat(model, regex="[ab]+", banned_strings=["no"], min_tokens=1))
    assert guided["structured_outputs"] == {"regex": "[ab]+"} and guided["bad_words"] == ["no"]
    assert asked["thinking_token_budget"] == 9 and asked["top_k"] == 3
    assert "model" not in asked, "it knows one name only, and a user may have said another"


def test_what_it_has_not_is_said(server: Server, model: str) -> None:
    reply = server.chat(model, dry_multiplier=0.8, mirostat=2)
    assert {warning["param"] for warning in reply.json()["warnings"]} == {"dry_multiplier", "mirostat"}
    strict = server.chat(model, dry_multiplier=0.8, strict=True)
    assert (strict.status_code, strict.json()["error"]["code"]) == (400, "unsupported_parameter")


def test_tokens_there_and_back(server: Server, model: str) -> None:
    found = server.post("/v1/tokenize", {"model": model, "text": "hey"}).json()
    assert found["tokens"] == [104, 101, 121] and found["count"] == 3
    assert server.post("/v1/detokenize", {"model": model, "tokens": found["tokens"]}).json()["text"] == "hey"


def test_a_prompt_that_is_too_long_is_told_with_both_numbers(server: Server, model: str) -> None:
    error = server.chat(model, text="long " * 60).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["details"]["prompt_tokens"] == 300 and error["details"]["context_length"] == 64


def test_a_word_that_it_does_not_take_is_the_users(server: Server, model: str) -> None:
    options = {"engine": "vllm", "extra_flags": ["--no-such-flag", "1"]}
    reply = server.post("/v1/models/load", {"model": model, "options": options})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "bad_option")
    assert "--no-such-flag" in error["message"] and error["param"] == "options.extra_flags"


def test_the_choice_says_that_it_is_away_from_home(server: Server, model: str) -> None:
    found = server.get(f"/v1/models/{model}/capabilities").json()
    assert found["engine"] == "vllm", "it has it loaded"
    assert found["abilities"]["json_schema"]["can"] and not found["abilities"]["lora"]["can"]
    assert "vllm" in [one["engine"] for one in found["engines"]]
