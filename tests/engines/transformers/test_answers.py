"""Real workers of Transformers: what they answer is what the library answers, alone and many at once."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.hosted.test_projection import folder_of, unit, write_dense
from tests.engines.transformers.conftest import PYTHON, SOURCE, Start, broken, plan_of
from tests.worker.process import LEFT_S, Worker, events, question, text_of
from uml.engines.handover import failure_in
from uml.registry import packaged_model

# Every worker imports PyTorch, which takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Made = dict[str, Any]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def greedy(worker: Worker, prompt: list[int], **more: Any) -> list[int]:
    """The tokens of a greedy answer."""
    asked = {"prompt": prompt, "temperature": 0, "max_tokens": 20, "return_tokens": True, **more}
    found: list[int] = worker.post("/v1/completions", asked)["choices"][0]["tokens"]
    return found


def agree(told: dict[str, Any], found: list[list[int]]) -> None:
    """Every answer begins as the library's, as far as that is sure."""
    for expected, tokens in zip(told["answers"], found, strict=True):
        assert tokens[: len(expected)] == expected
    assert sum(map(len, told["answers"])) >= 20


@pytest.mark.parametrize("name", ["demo", "window", "mixed", "mamba", "t5", "bart", "falcon", "alibi"])
def test_it_answers_as_the_library_does(made: Made, start: Start, name: str) -> None:
    worker = start(made[name]["folder"])
    agree(made[name], [greedy(worker, prompt) for prompt in made[name]["prompts"]])


@pytest.mark.parametrize("name", ["demo", "window", "mixed", "falcon", "t5"])
def test_many_at_once_are_each_as_alone(made: Made, start: Start, name: str) -> None:
    worker = start(made[name]["folder"])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda prompt: greedy(worker, prompt), made[name]["prompts"] * 2))
    agree(made[name], found[:4])
    agree(made[name], found[4:])


def test_what_lay_in_memory_before_is_in_no_answer(made: Made, start: Start) -> None:
    # The system's allocator fills what it hands out with numbers so large that computing with them gives infinities.
    worker = start(made["window"]["folder"], environment={"MALLOC_PERTURB_": "1"})
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda prompt: greedy(worker, prompt), made["window"]["prompts"] * 2))
    agree(made["window"], found[:4])
    agree(made["window"], found[4:])


@pytest.mark.parametrize(
    "options",
    [
        {"spec_type": "ngram-simple", "spec_ngram_size_n": 3},
        {"draft_model": str(SOURCE)},
        {"draft_model": str(packaged_model("demo-draft-safetensors")), "draft_max": 6},
    ],
    ids=("what was said", "itself", "its draft model"),
)
def test_guessing_ahead_changes_nothing(made: Made, start: Start, options: dict[str, Any]) -> None:
    worker = start(made["demo"]["folder"], **options)
    agree(made["demo"], [greedy(worker, prompt) for prompt in made["demo"]["prompts"]])
    sampled = [greedy(one, [5, 6], temperature=1, seed=3) for one in (worker, start(made["demo"]["folder"]))]
    assert sampled[0] == sampled[1]


def test_adapters_come_and_go_and_each_request_has_its_own(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"], lora=[f"{made['one']['folder']}=0"])
    agree(made["demo"], [greedy(worker, prompt) for prompt in made["demo"]["prompts"]])
    second = worker.post("/lora-adapters", {"path": str(made["two"]["folder"]), "scale": 0})["id"]
    assert [one["id"] for one in worker.request("GET", "/lora-adapters")[1]] == [0, second]
    asked = [(name, prompt) for prompt in made["demo"]["prompts"] for name in ("demo", "one", "two")]
    chosen: dict[str, list[Any]] = {"demo": [], "one": [{"id": 0}], "two": [{"id": second, "scale": 1.0}]}
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda one: greedy(worker, one[1], lora=chosen[one[0]]), asked))
    for place, name in enumerate(("demo", "one", "two")):
        agree(made[name], found[place::3])
    # Who has it while it is taken out keeps it to the end; nobody gets it any more.
    long = {"prompt": made["two"]["prompts"][0], "temperature": 0, "max_tokens": 90, "ignore_eos": True}
    long |= {"lora": chosen["two"], "stream": True}
    whole = text_of(worker.stream("/v1/completions", long))
    answering = events(worker.send("POST", "/v1/completions", long).getresponse())
    begun = [next(answering)]
    worker.post("/lora-adapters", {"unload": second})
    assert text_of([*begun, *answering]) == whole
    status, answer = worker.request("POST", "/v1/completions", {"prompt": "a", "lora": [{"id": second}]})
    assert (status, "no adapter" in answer["error"]["message"]) == (400, True)
    worker.post("/lora-adapters", {"id": 0, "scale": 1})
    agree(made["one"], [greedy(worker, prompt) for prompt in made["one"]["prompts"]])


def test_vectors_are_the_librarys(made: Made, start: Start) -> None:
    worker = start(made["bert"]["folder"])
    answer = worker.post("/v1/embeddings", {"input": ["A small house"]})
    assert answer["data"][0]["embedding"] == pytest.approx(made["bert"]["vector"], abs=1e-4)
    status, refused = worker.request("POST", "/v1/completions", {"prompt": "a"})
    assert (status, "embeddings" in refused["error"]["message"]) == (400, True)


def test_what_stands_behind_the_pooling_is_done(made: Made, start: Start, tmp_path: Path) -> None:
    vector = made["bert"]["vector"]
    weight = np.random.default_rng(1).normal(size=(8, len(vector))).astype(np.float32)
    dense = folder_of(tmp_path, "Pooling", "Normalize", "Dense") / "3_Dense"
    shutil.copytree(made["bert"]["folder"], tmp_path, dirs_exist_ok=True)
    write_dense(dense, tensors={"linear.weight": weight}, bias=False, in_features=len(vector), out_features=8)
    expected = pytest.approx(unit(np.tanh(weight @ vector)), abs=1e-4)
    asked = {"input": ["A small house"]}
    assert start(tmp_path).post("/v1/embeddings", asked)["data"][0]["embedding"] == expected
    older = tmp_path.with_name("older")
    shutil.copytree(tmp_path, older)
    # As parameters, which older versions saved.
    code = (
        "import safetensors.torch as s, sys, torch\n"
        "found = s.load_file(sys.argv[1])\n"
        "torch.save({name: torch.nn.Parameter(one) for name, one in found.items()}, sys.argv[2])"
    )
    safe, pickled = (older / "3_Dense" / name for name in ("model.safetensors", "pytorch_model.bin"))
    subprocess.run((PYTHON, "-c", code, str(safe), str(pickled)), check=True)
    safe.unlink()
    assert start(older).post("/v1/embeddings", asked)["data"][0]["embedding"] == expected
    # A pickle is a program: one that would call something is not run.
    pickled.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    assert "which may be a program; not read" in str(failure_in(broken(plan_of(older), tmp_path).log))
    (older / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "max"}))
    assert "the model says 'max'" in str(failure_in(broken(plan_of(older), tmp_path).log))


def test_what_was_read_is_not_read_again(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"])
    words = "a house by a river and a boat " * 4
    first = worker.post("/v1/completions", {"prompt": words, "max_tokens": 8, "temperature": 0})
    again = worker.post("/v1/completions", {"prompt": words, "max_tokens": 8, "temperature": 0})
    size = again["usage"]["prompt_tokens"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == size - 1
    assert again["choices"][0]["text"] == first["choices"][0]["text"]
    fresh = worker.post("/v1/completions", {"prompt": words, "max_tokens": 8, "temperature": 0, "cache_prompt": False})
    assert "prompt_tokens_details" not in fresh["usage"]


def test_a_stream_says_what_the_whole_says(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"])
    asked = question("Who are you?", max_tokens=16)
    chunks = worker.stream("/v1/chat/completions", {**asked, "stream_options": {"include_usage": True}})
    whole = worker.post("/v1/chat/completions", asked)
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert chunks[-3]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


def test_seeds_repeat_and_probabilities_sum_to_one(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"])
    asked = {**question("Tell me a story", max_tokens=12), "temperature": 1, "seed": 7}
    texts = [worker.post("/v1/chat/completions", asked)["choices"][0]["message"]["content"] for _ in range(2)]
    assert texts[0] == texts[1]
    told = worker.post("/v1/chat/completions", {**asked, "logprobs": True, "top_logprobs": 20, "max_tokens": 3})
    for token in told["choices"][0]["logprobs"]["content"]:
        assert 0.5 < sum(math.exp(one["logprob"]) for one in token["top_logprobs"]) <= 1 + 1e-6


def test_structures_are_followed_also_side_by_side(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"])
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "maximum": 99}, "well": {"type": "boolean"}},
        "required": ["age", "well"],
        "additionalProperties": False,
    }
    asked = [
        {"json_schema": schema},
        {"regex": "[ab]{3}c"},
        {"choice": ["yes", "no"]},
        {},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
    ]

    def ask(more: dict[str, Any]) -> str:
        answer = worker.post("/v1/chat/completions", question("Say something", max_tokens=40, **more))
        return str(answer["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(5) as pool:
        first, matched, chosen, _, last = pool.map(ask, asked)
    assert json.loads(first).keys() == json.loads(last).keys() == {"age", "well"}
    assert len(matched) == 4 and matched.endswith("c")
    assert chosen in ("yes", "no")


def test_a_tool_that_must_be_called_is(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"], ctx=512)
    asked = question("What is the weather in Paris?", max_tokens=60, tools=[WEATHER], tool_choice="required")
    choice = worker.post("/v1/chat/completions", asked)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert isinstance(json.loads(call["function"]["arguments"])["city"], str)
    shown = worker.post("/apply-template", {"messages": asked["messages"], "tools": [WEATHER]})["prompt"]
    assert "get_weather" in shown


@pytest.mark.parametrize("name", ["demo", "mamba"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(made: Made, start: Start, name: str, stream: bool) -> None:
    worker = start(made[name]["folder"], ctx=2048, parallel=1, batch=2048)
    asked = {"prompt": "a", "max_tokens": 1900, "ignore_eos": True, "stream": stream}
    answering = worker.send("POST", "/v1/completions", asked)
    worker.wait_until_busy(1)
    waiting = worker.send("POST", "/v1/completions", asked)
    waiting.close()
    answering.close()
    assert worker.wait_until_busy(0) < LEFT_S
    reading = worker.send("POST", "/v1/completions", {**asked, "prompt": "house river boat " * 300, "max_tokens": 4})
    worker.wait_until_busy(1)
    reading.close()
    assert worker.wait_until_busy(0) < LEFT_S
    assert worker.post("/v1/completions", {"prompt": "a", "max_tokens": 2})["usage"]["completion_tokens"] >= 1


def test_tokens_go_there_and_back(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"])
    text = "Größe 12 <|im_end|>\n"
    tokens = worker.post("/tokenize", {"content": text})["tokens"]
    assert worker.post("/detokenize", {"tokens": tokens})["content"] == text
    status, answer = worker.request("POST", "/detokenize", {"tokens": [10**6]})
    assert (status, "expected ids" in answer["error"]["message"]) == (400, True)
    status, answer = worker.request("POST", "/v1/completions", {"prompt": "a b " * 200})
    assert (status, answer["error"]["n_ctx"]) == (400, 128)


def test_positions_can_be_stretched(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"], rope_scaling="linear", rope_freq_scale=0.5)
    assert greedy(worker, made["demo"]["prompts"][1]) != made["demo"]["answers"][1]


@pytest.mark.parametrize("options", [{"draft_model": str(SOURCE)}, {"spec_type": "ngram-simple"}])
def test_nobody_guesses_for_a_model_that_cannot_go_back(made: Made, tmp_path: Path, options: dict[str, Any]) -> None:
    found = failure_in(broken(plan_of(made["falcon"]["folder"], **options), tmp_path).log)
    assert found
    assert (found.code, next(iter(options)) in found.message) == ("bad_option", True)
