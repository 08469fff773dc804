"""Search by beams: what the library finds, beside answers that run in rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.engines.transformers.conftest import Start
from tests.engines.transformers.test_answers import agree, greedy
from tests.worker.process import LEFT_S, question

# Every worker imports PyTorch, which takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Made = dict[str, Any]
BEAMS = {"num_beams": 3, "length_penalty": 1.5, "early_stopping": True, "no_repeat_ngram_size": 3}


@pytest.mark.parametrize("name", ["demo", "t5", "bart", "falcon"])
def test_a_search_finds_what_the_library_finds(made: Made, start: Start, name: str) -> None:
    worker = start(made[name]["folder"])
    assert [greedy(worker, prompt, **BEAMS) for prompt in made[name]["prompts"]] == made[name]["searched"]


def test_searches_and_rows_take_turns(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"])
    asked = [(prompt, more) for prompt in made["demo"]["prompts"] for more in ({}, BEAMS)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: greedy(worker, one[0], **one[1]), asked))
    agree(made["demo"], found[::2])
    assert found[1::2] == made["demo"]["searched"]


def test_a_search_is_told_in_one_piece_and_stops_where_it_is_told_to(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"])
    asked = question("Who are you?", max_tokens=20, num_beams=2, temperature=0)
    whole = worker.post("/v1/chat/completions", asked)
    text = whole["choices"][0]["message"]["content"]
    chunks = worker.stream("/v1/chat/completions", {**asked, "stream_options": {"include_usage": True}})
    pieces = [choice["delta"].get("content") for chunk in chunks[:-1] for choice in chunk["choices"]]
    assert [piece for piece in pieces if piece] == [text]
    assert chunks[-2]["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] > 3
    stop = text.split()[2]
    cut = worker.post("/v1/chat/completions", {**asked, "stop": [stop]})["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == (text[: text.index(stop)], "stop")


def test_what_a_search_cannot_do_is_said(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"])
    asked = {"prompt": "The king", "max_tokens": 4, **BEAMS}
    told = worker.post("/v1/completions", {**asked, "temperature": 0.7, "top_k": 40, "min_p": 0.2})
    assert [one["param"] for one in told["warnings"]] == ["temperature", "min_p"]
    twice = worker.post("/v1/completions", {**asked, "n": 2})
    assert [one["param"] for one in twice["warnings"]] == ["n"]
    assert twice["choices"][0]["text"] == twice["choices"][1]["text"]
    without = worker.post("/v1/completions", {"prompt": "a", "max_tokens": 2, "length_penalty": 2})
    assert [one["param"] for one in without["warnings"]] == ["length_penalty"]
    status, answer = worker.request("POST", "/v1/completions", {**asked, "regex": "[ab]+"})
    assert (status, answer["error"]["param"]) == (400, "num_beams")


@pytest.mark.parametrize("name", ["demo", "t5"])
def test_a_search_ends_when_its_client_leaves(made: Made, start: Start, name: str) -> None:
    worker = start(made[name]["folder"], ctx=2048, batch=2048)
    for prompt in ("a", "house river boat " * 300):  # while it chooses tokens, and while it reads
        asked = {"prompt": prompt, "max_tokens": 1000, "num_beams": 8, "min_tokens": 1000}
        searching = worker.send("POST", "/v1/completions", asked)
        worker.wait_until_busy(1)
        searching.close()
        assert worker.wait_until_busy(0) < LEFT_S


@pytest.mark.parametrize("name", ["demo", "mixed"])
def test_what_is_read_in_pieces_says_the_same(made: Made, start: Start, name: str) -> None:
    whole, pieces = (start(made[name]["folder"], batch=batch) for batch in (512, 6))
    guided = {"guidance_scale": 1.5, "negative_prompt": "The dog ran over the hill and away"}
    for more in (BEAMS, guided):
        for prompt in made[name]["prompts"]:
            assert greedy(pieces, prompt, **more) == greedy(whole, prompt, **more)


def test_what_there_is_no_memory_for_is_not_begun(made: Made, start: Start) -> None:
    worker = start(made["demo"]["folder"])
    asked = {"prompt": "The king", "max_tokens": 100, "temperature": 0}
    status, answer = worker.request("POST", "/v1/completions", {**asked, "num_beams": 100_000_000})
    told = answer["error"]
    assert (status, told["type"]) == (507, "insufficient_memory_error")
    assert "more for num_beams 100000000, each with up to 1" in told["message"]
    assert told["details"]["needed"] > 100 * told["details"]["free"] > 0
    assert worker.post("/v1/completions", {**asked, "num_beams": 3})["usage"]["completion_tokens"] > 0
