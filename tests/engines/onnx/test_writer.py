"""ONNX Runtime GenAI as a worker: it says what Transformers says, and keeps what every hosted engine promises."""

from __future__ import annotations

import json
import math
import threading
import time
from typing import Any

import pytest

from tests.engines.onnx.conftest import PROMPTS, Made, Start
from tests.worker.process import LEFT_S, Worker, question, text_of

pytestmark = pytest.mark.slow  # the builder imports PyTorch and makes the model: ten seconds on an idle machine

CHAT = "/v1/chat/completions"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def said(worker: Worker, prompt: str, **rest: Any) -> Any:
    answer = worker.post(CHAT, question(prompt, **{"max_tokens": 32, **rest}))
    return answer["choices"][0]


def test_it_says_what_transformers_says_token_for_token(writer: Worker, reference: list[list[int]]) -> None:
    for prompt, expected in zip(PROMPTS, reference, strict=True):
        assert said(writer, prompt, return_tokens=True)["tokens"] == expected, prompt


def test_four_bits_say_nearly_the_same(start: Start, int4: Made, reference: list[list[int]]) -> None:
    worker = start(int4.folder).ready()
    same = sum(
        said(worker, prompt, return_tokens=True)["tokens"][:1] == expected[:1]
        for prompt, expected in zip(PROMPTS, reference, strict=True)
    )
    assert same >= len(PROMPTS) // 2
    assert sum(f.stat().st_size for f in int4.folder.iterdir()) < 5 << 20


def test_a_stream_is_the_answer_in_pieces(writer: Worker) -> None:
    chunks = writer.stream(CHAT, question(PROMPTS[1], max_tokens=24, stream_options={"include_usage": True}))
    assert text_of(chunks) == writer.post(CHAT, question(PROMPTS[1], max_tokens=24))["choices"][0]["message"]["content"]
    assert chunks[-1] == "[DONE]"
    usage = chunks[-2]["usage"]
    assert usage["completion_tokens"] <= 24
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_next_turn_reads_only_what_is_new(writer: Worker) -> None:
    first = question("Remember the number seven, please.", max_tokens=4)
    writer.post(CHAT, first)
    again = writer.post(CHAT, first)["usage"]
    assert again["prompt_tokens_details"]["cached_tokens"] == again["prompt_tokens"] - 1
    assert "prompt_tokens_details" not in writer.post(CHAT, {**first, "cache_prompt": False})["usage"]


def test_eight_answers_at_once_are_what_each_is_alone(writer: Worker) -> None:
    asked = [
        question(f"{prompt} {place}", max_tokens=16, seed=place) for place, prompt in enumerate(PROMPTS + PROMPTS[:2])
    ]
    alone = [writer.post(CHAT, body)["choices"][0]["message"] for body in asked]
    found: dict[int, Any] = {}

    def ask(place: int) -> None:
        found[place] = writer.post(CHAT, asked[place])["choices"][0]["message"]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place] for place in range(len(asked))] == alone


def test_a_seed_repeats_and_others_differ(writer: Worker) -> None:
    def drawn(seed: int) -> str:
        body = {
            "prompt": "Once upon",
            "temperature": 2,
            "top_k": 0,
            "top_p": 1,
            "min_p": 0,
            "max_tokens": 12,
            "seed": seed,
        }
        return str(writer.post("/v1/completions", body)["choices"][0]["text"])

    assert drawn(7) == drawn(7)
    assert len({drawn(seed) for seed in range(4)}) > 1


def test_a_stop_string_ends_the_answer_across_tokens(writer: Worker) -> None:
    whole = said(writer, PROMPTS[0])["message"]["content"]
    stop = whole[3:8]
    cut = said(writer, PROMPTS[0], stop=[stop])
    assert cut["message"]["content"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"


def test_probabilities_sum_to_one(writer: Worker) -> None:
    answer = writer.post("/v1/completions", {"prompt": "The", "max_tokens": 1, "temperature": 0, "n_probs": 20})
    (token,) = answer["choices"][0]["logprobs"]["content"]
    top = [math.exp(one["logprob"]) for one in token["top_logprobs"]]
    assert top == sorted(top, reverse=True)
    assert token["logprob"] == token["top_logprobs"][0]["logprob"]
    assert 0 < sum(top) <= 1.0001


def test_an_answer_follows_a_schema(writer: Worker) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    for seed in range(5):
        body = question("Anna is seven.", temperature=1.5, seed=seed, max_tokens=80, response_format=form)
        told = json.loads(writer.post(CHAT, body)["choices"][0]["message"]["content"])
        assert told.keys() == {"name", "age"}
        assert isinstance(told["age"], int)


def test_a_tool_that_must_be_called_is_called(writer: Worker) -> None:
    choice = said(writer, "Weather in Paris?", tools=[TOOL], tool_choice="required", max_tokens=80)
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert "city" in json.loads(call["function"]["arguments"])
    assert choice["finish_reason"] == "tool_calls"


def test_a_prompt_is_given_up_in_its_middle(start: Start, fp32: Made) -> None:
    worker = start(fp32.folder, parallel=1, ctx=2048, batch=2048).ready()
    whole = {"prompt": [5, 6, 7, 8] * 500, "max_tokens": 1, "cache_prompt": False}
    began = time.monotonic()
    worker.post("/v1/completions", whole)
    takes_s = time.monotonic() - began
    connection = worker.send("POST", "/v1/completions", whole)
    worker.wait_until_busy(1)
    connection.close()
    began = time.monotonic()
    # The slot of the one who left is free for the next, who need not wait for the prompt's end.
    worker.post("/v1/completions", {"prompt": "A", "max_tokens": 1})
    assert time.monotonic() - began < max(LEFT_S, takes_s / 2)


def test_health_is_told_while_a_prompt_is_read(start: Start, fp32: Made) -> None:
    worker = start(fp32.folder, parallel=1, ctx=2048, batch=2048).ready()
    done = threading.Event()

    def read() -> None:
        worker.post("/v1/completions", {"prompt": [5, 6, 7, 8] * 500, "max_tokens": 1, "cache_prompt": False})
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    worker.wait_until_busy(1)
    answered = 0
    while not done.is_set():
        assert worker.health() == 200
        answered += 1
    thread.join()
    assert answered > 3  # the library's own Python module would have let none through


def test_what_does_not_fit_is_refused(writer: Worker) -> None:
    status, body = writer.request("POST", "/v1/completions", {"prompt": [5] * 2048, "max_tokens": 1})
    assert (status, body["error"]["n_prompt_tokens"], body["error"]["n_ctx"]) == (400, 2048, 2048)
    status, body = writer.request("POST", "/v1/completions", {"prompt": [5, 999_999], "max_tokens": 1})
    assert status == 400
    assert "999999" in body["error"]["message"]
    assert writer.request("POST", "/v1/embeddings", {"input": "x"})[0] == 400


def test_the_last_token_of_the_context_is_used(start: Start, fp32: Made) -> None:
    worker = start(fp32.folder, ctx=64, parallel=1).ready()
    answer = worker.post("/v1/completions", {"prompt": [5] * 60, "ignore_eos": True, "temperature": 0})
    assert answer["usage"]["completion_tokens"] == 4
    assert answer["choices"][0]["finish_reason"] == "length"


def test_tokens_and_texts_are_each_others(writer: Worker) -> None:
    text = "Grüße an 東京 <|im_end|>"
    tokens = writer.post("/tokenize", {"content": text})["tokens"]
    assert writer.post("/detokenize", {"tokens": tokens})["content"] == text
