"""What every engine promises, told once, and held against each of them with a real model in a real process."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest

from tests.engines import contract, samplers
from tests.engines.contract import CONTEXT, PROMPTS, QUESTIONS, READY_S, SLOTS, SUBJECTS, Reference, Said, Subject
from tests.sampling import schemas
from tests.worker.process import UnixConnection, Worker, events, question, text_of
from uml.core.errors import BadFile
from uml.generation import check, prepare
from uml.generation.capabilities import honours
from uml.generation.parameters import SAMPLERS
from uml.generation.schema import unheeded

# For a machine that does much else besides: a worker of Transformers imports PyTorch first.
pytestmark = pytest.mark.timeout(400)
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TRIES = 6
"""How often something may be tried that has to be done in a time: only the machine's slowness differs between them."""
SCHEMAS = 100
LONG = {"prompt": "Once upon a time", "max_tokens": CONTEXT - 100, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return contract.subject_of(request.param)


@pytest.fixture(scope="module")
def worker(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("w")
    with Worker(subject.make(), subject.plan(subject.model(folder)), folder) as started:
        yield started.ready(READY_S)


@pytest.fixture
def real(subject: Subject) -> None:
    if not subject.real:
        pytest.skip("it invents what it says")


@pytest.fixture(scope="session")
def reference() -> Reference:
    return contract.reference()


def completed(worker: Worker, prompt: str | list[int], **more: Any) -> Any:
    """The one choice of a completion, greedily."""
    asked = {"prompt": prompt, "temperature": 0, "max_tokens": 24, **more}
    return worker.post(COMPLETIONS, asked)["choices"][0]


def told(worker: Worker, said: Said) -> list[dict[str, Any]]:
    """What is told of every token of an answer to what Transformers was asked."""
    found: list[dict[str, Any]] = completed(worker, said.prompt, n_probs=100)["logprobs"]["content"]
    return found


def agrees(tokens: list[int], said: Said) -> bool:
    """Whether these are the tokens of Transformers' answer, as far as that is sure."""
    return len(said.tokens) <= len(tokens) and tokens[: len(said.tokens)] == said.tokens


# --- what is said -------------------------------------------------------------------------------


@pytest.mark.usefixtures("real")
def test_greedy_answers_are_those_of_transformers_token_for_token(worker: Worker, reference: Reference) -> None:
    for said in reference.prompts:
        assert agrees([token["id"] for token in told(worker, said)], said)
    sure = [len(said.tokens) for said in reference.prompts]
    assert sum(sure) > 80, f"too little was compared to tell anything: {sure}"


@pytest.mark.usefixtures("real")
def test_a_chat_reads_and_says_what_transformers_does(worker: Worker, reference: Reference) -> None:
    compared = 0
    for asked, said in zip(QUESTIONS, reference.questions, strict=True):
        answer = worker.post(CHAT, question(asked, max_tokens=24))
        assert answer["usage"]["prompt_tokens"] == len(said.prompt)
        if said.whole:
            assert answer["choices"][0]["message"]["content"].strip() == said.text.strip()
            compared += 1
    assert compared


@pytest.mark.usefixtures("real")
def test_probabilities_are_those_of_transformers_and_sum_to_one(worker: Worker, reference: Reference) -> None:
    for said in reference.prompts:
        for token, logprob, share in zip(told(worker, said), said.logprobs, said.shares, strict=False):
            top = [math.exp(one["logprob"]) for one in token["top_logprobs"]]
            assert token["logprob"] == pytest.approx(logprob, abs=0.02)
            assert top == sorted(top, reverse=True)
            # All but the unlikeliest of them: of those the library says how much is left.
            assert sum(top) + 1 - share == pytest.approx(1, abs=2e-3)


@pytest.mark.usefixtures("real")
def test_guidance_leads_away_from_another_text(worker: Worker, subject: Subject) -> None:
    """By the formula of Sanchez and others, of the probabilities that each text alone gives; and token for token."""
    if subject.make().spec.dialect.get("guidance_scale") is None:
        pytest.skip("it cannot be guided, and tells so")
    other, _, story = PROMPTS[:3]
    scale, away = 1.5, {"guidance_scale": 1.5, "negative_prompt": other}

    def first(prompt: str, **more: Any) -> dict[int, float]:
        told = completed(worker, prompt, max_tokens=1, n_probs=100, **more)["logprobs"]["content"][0]
        return {one["id"]: one["logprob"] for one in told["top_logprobs"]}

    led, free, guided = first(story), first(other), first(story, **away)
    known = sorted(led.keys() & free.keys() & guided.keys())
    assert len(known) > 10
    wanted = [scale * led[token] + (1 - scale) * free[token] for token in known]
    off = [guided[token] - value for token, value in zip(known, wanted, strict=True)]
    assert max(off) - min(off) < 0.1, "all differ by what makes probabilities of them, and by no more"

    asked = {"max_tokens": 16, "ignore_eos": True, **away}
    alone = completed(worker, story, **asked)["text"]
    assert alone != completed(worker, story, max_tokens=16, ignore_eos=True)["text"]
    with ThreadPoolExecutor(SLOTS) as pool:
        both = [pool.submit(completed, worker, story, **more) for more in (asked, {}, asked, {}, asked)]
        found = [one.result()["text"] for one in both]
    assert found[::2] == [alone] * 3
    assert found[1] == found[3] == completed(worker, story)["text"]


def test_a_negative_prompt_stands_where_the_system_message_does(worker: Worker, subject: Subject) -> None:
    if subject.make().spec.dialect.get("guidance_scale") is None:
        pytest.skip("it cannot be guided, and tells so")
    asked = {**question("Who are you?", max_tokens=8), "temperature": 0}
    system = [{"role": "system", "content": "You are a pirate."}]
    other = {**asked, "messages": [*system, *asked["messages"]]}
    # At 0 nothing but the other text leads.
    guided = worker.post(CHAT, {**asked, "guidance_scale": 0, "negative_prompt": "You are a pirate."})
    assert guided["choices"][0]["message"] == worker.post(CHAT, other)["choices"][0]["message"]
    told = worker.post(CHAT, {**asked, "negative_prompt": "You are a pirate."})
    assert [one["param"] for one in told["warnings"]] == ["negative_prompt"]
    long = worker.request("POST", CHAT, {**asked, "guidance_scale": 2, "negative_prompt": "word " * CONTEXT})
    assert (long[0], long[1]["error"]["param"]) == (400, "negative_prompt")


def test_a_stream_is_the_answer_in_order(worker: Worker) -> None:
    asked = question("Tell me a story about a dog.", max_tokens=20)
    chunks = worker.stream(CHAT, {**asked, "stream_options": {"include_usage": True}})
    whole = worker.post(CHAT, asked)
    assert chunks.pop() == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    usage = chunks.pop()
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], whole["usage"]["completion_tokens"])
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finishes == [None] * (len(chunks) - 1) + [whole["choices"][0]["finish_reason"]]
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]


def test_a_stream_comes_while_the_answer_is_made(worker: Worker) -> None:
    connection = worker.send("POST", COMPLETIONS, LONG)
    found = events(connection.getresponse())
    for _ in range(3):
        next(found)
    assert worker.busy() == 1
    connection.close()
    worker.wait_until_busy(0)


def test_a_stop_string_ends_an_answer_wherever_tokens_meet(worker: Worker) -> None:
    prompt = PROMPTS[0] if worker.plan.engine != "fake" else "one two three"
    asked: dict[str, Any] = {"prompt": prompt, "temperature": 0, "max_tokens": 16, "ignore_eos": True}
    whole = text_of(worker.stream(COMPLETIONS, asked))
    tried = 0
    # A word has a token or two: so many places are some within tokens, and some where they meet.
    for place in range(2, len(whole) - 2, 3):
        stop = whole[place - 2 : place + 2]
        if whole.find(stop) != place - 2:
            continue
        expected = whole[: place - 2]
        choice = completed(worker, **{**asked, "stop": [stop, "never to be seen"]})
        assert (choice["text"], choice["finish_reason"]) == (expected, "stop"), stop
        chunks = worker.stream(COMPLETIONS, {**asked, "stop": stop})
        assert text_of(chunks) == expected
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        tried += 1
    assert tried > 3, f"too few places are the first of their kind: {whole}"


def test_usage_counts_every_token(worker: Worker) -> None:
    size = len(worker.post("/tokenize", {"content": PROMPTS[0]})["tokens"])
    for most in (1, 9):
        asked = {"prompt": PROMPTS[0], "temperature": 0, "max_tokens": most, "ignore_eos": True}
        usage = worker.post(COMPLETIONS, asked)["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (size, most)
        assert usage["total_tokens"] == size + most
        chunks = worker.stream(COMPLETIONS, {**asked, "stream_options": {"include_usage": True}})
        (streamed,) = [chunk["usage"] for chunk in chunks[:-1] if chunk.get("usage")]
        assert (streamed["prompt_tokens"], streamed["completion_tokens"]) == (size, most)
        assert [choice["finish_reason"] for chunk in chunks[:-1] for choice in chunk["choices"]][-1] == "length"


def test_usage_counts_a_prompt_once_for_all_its_choices(worker: Worker) -> None:
    size = len(worker.post("/tokenize", {"content": PROMPTS[0]})["tokens"])
    asked = {"prompt": PROMPTS[0], "temperature": 0, "max_tokens": 3, "ignore_eos": True, "n": 2}
    answer = worker.post(COMPLETIONS, asked)
    assert len(answer["choices"]) == 2
    assert answer["usage"]["prompt_tokens"] == size


@pytest.mark.usefixtures("real")
def test_a_seed_repeats_and_another_says_something_else(worker: Worker) -> None:
    def drawn(seed: int) -> str:
        return str(completed(worker, PROMPTS[0], temperature=1.5, top_k=0, top_p=1, min_p=0, seed=seed)["text"])

    assert drawn(7) == drawn(7)
    assert len({drawn(seed) for seed in range(5)}) == 5


@pytest.mark.usefixtures("real")
def test_a_json_schema_is_obeyed(subject: Subject, worker: Worker) -> None:
    def answer(seed: int) -> str:
        schema = schemas.make(random.Random(seed))
        if subject.loose and unheeded(schema, "gbnf"):
            return "not for it"
        asked = {"json_schema": schema, "seed": seed, "temperature": 1, "max_tokens": 160}
        choice = completed(worker, "As JSON:", **asked)
        if choice["finish_reason"] == "length":
            return "cut"
        assert schemas.follows(json.loads(choice["text"]), schema), (schema, choice["text"])
        return "obeyed"

    with ThreadPoolExecutor(SLOTS) as pool:
        found = list(pool.map(answer, range(SCHEMAS)))
    # A model this small likes blanks and digits, which schemas allow without end.
    assert found.count("obeyed") >= SCHEMAS // 3, found


@pytest.mark.usefixtures("real")
def test_bounds_of_numbers_are_heeded_or_it_is_said_that_they_are_not(subject: Subject, worker: Worker) -> None:
    schema = {"type": "number", "minimum": 3, "maximum": 4}
    prepared = prepare(check("completion", {"prompt": "As JSON:", "json_schema": schema}), worker.engine.spec)
    assert [warning["param"] for warning in prepared.warnings] == (["json_schema"] if subject.loose else [])

    def answer(seed: int) -> str:
        asked = {"json_schema": schema, "seed": seed, "temperature": 1, "max_tokens": 24}
        return str(completed(worker, "As JSON:", **asked)["text"])

    found = [float(text) for text in map(answer, range(12))]
    # The limit is real, and not only said: an engine that has learned to heed them must not be called loose.
    assert all(3 <= value <= 4 for value in found) is not subject.loose, found


@pytest.mark.usefixtures("real")
def test_every_sampler_acts_or_it_is_said_that_it_does_not(worker: Worker) -> None:
    """What `/v1/models/{id}/capabilities` tells of each, tried: one that is promised changes the answer."""
    assert samplers.CASES.keys() == set(SAMPLERS)
    spec, dead = worker.engine.spec, []

    @cache
    def answer(asked: str) -> str:
        body = json.loads(asked)
        prepared = prepare(check("completion", body), spec)
        return str(worker.post(COMPLETIONS, prepared.body or body)["choices"][0]["text"])

    for name, case in samplers.CASES.items():
        asked = {**samplers.OPEN, **case.beside}
        warned = prepare(check("completion", {**asked, name: case.value}), spec).warnings
        if any(warning["param"] == name for warning in warned):
            assert not honours(spec, name), f"{name} is promised, and then refused: {warned}"
            continue
        assert honours(spec, name), f"{name} is taken, and not promised"
        if answer(json.dumps(asked)) == answer(json.dumps({**asked, name: case.value})):
            dead.append(name)
    assert not dead, "promised, and without any effect"


@pytest.mark.usefixtures("real")
def test_a_sampler_of_a_plugin_acts_on_its_answer_alone(worker: Worker) -> None:
    if not honours(worker.engine.spec, "plugin_samplers"):
        pytest.skip("it samples by itself, and a warning says so")
    asked: dict[str, Any] = {"max_tokens": 40, "seed": 1, "temperature": 1, "ignore_eos": True}
    alone = completed(worker, PROMPTS[0], **asked)["text"]
    with ThreadPoolExecutor(SLOTS) as pool:
        wish = {"plugin_samplers": {"lipogram": "e"}}
        wishes: list[dict[str, Any]] = [wish, {}, wish, {}]
        found = list(pool.map(lambda more: completed(worker, PROMPTS[0], **asked, **more)["text"], wishes))
    assert found[1] == found[3] == alone and "e" in alone
    assert found[0] == found[2] and len(found[0]) > 40 and not set("eE") & set(found[0])


def test_eight_at_once_are_each_answered_as_alone(subject: Subject, worker: Worker) -> None:
    alone = [completed(worker, prompt, max_tokens=16)["text"] for prompt in PROMPTS]
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        together = list(pool.map(lambda prompt: completed(worker, prompt, max_tokens=16)["text"], PROMPTS))
    assert len(set(alone)) > 4
    assert together == alone


# --- who leaves ---------------------------------------------------------------------------------


def left(worker: Worker, connections: list[UnixConnection], busy: int = 0) -> float:
    """Seconds from when these clients leave until only so many slots are at work."""
    for connection in connections:
        connection.close()
    return worker.wait_until_busy(busy)


def soon(attempt: Callable[[], float], limit_s: float) -> None:
    """See that it can be done within a time."""
    taken: list[float] = []
    while not taken or (min(taken) > limit_s and len(taken) < TRIES):
        taken.append(attempt())
    assert min(taken) <= limit_s, taken


def test_who_leaves_in_mid_answer_frees_the_slot(subject: Subject, worker: Worker) -> None:
    notices = worker.engine.spec.notices_leaving
    # llama.cpp's server looks after clients of streams only; the gateway asks it for nothing else.
    for stream in (True, False) if notices else (True,):

        def attempt(stream: bool = stream) -> float:
            connection = worker.send("POST", COMPLETIONS, {**LONG, "stream": stream})
            if stream:
                next(events(connection.getresponse()))
            worker.wait_until_busy(1)
            return left(worker, [connection])

        soon(attempt, contract.AT_ONCE_S)


@pytest.mark.usefixtures("real")
def test_who_leaves_while_the_prompt_is_read_frees_the_slot(subject: Subject, worker: Worker) -> None:
    if not worker.engine.spec.notices_leaving:
        pytest.skip(
            "until the first token its server looks once a second; that it stops: tests/gateway/test_leaving.py"
        )
    words = "the house by the river and the boat on the sea "
    size = len(worker.post("/tokenize", {"content": words})["tokens"])

    def asked(number: int) -> dict[str, Any]:
        text = f"{number} " + words * ((CONTEXT - 100) // size)
        return {"prompt": text, "max_tokens": 1, "cache_prompt": False, "stream": True}

    begin = time.monotonic()
    worker.stream(COMPLETIONS, asked(0))
    alone = time.monotonic() - begin
    # So many that reading them all takes far longer than noticing that nobody waits.
    count = min(200, max(8, math.ceil(4 * contract.AT_ONCE_S / alone)))

    def attempt() -> float:
        connections = [worker.send("POST", COMPLETIONS, asked(number)) for number in range(1, count)]
        worker.wait_until_busy(SLOTS)
        return left(worker, connections)

    soon(attempt, contract.AT_ONCE_S)
    assert completed(worker, "Hello", max_tokens=1)["finish_reason"] == "length"


def test_who_leaves_the_queue_takes_no_slot(subject: Subject, worker: Worker) -> None:
    def attempt() -> float:
        answered = [worker.send("POST", COMPLETIONS, LONG) for _ in range(SLOTS)]
        worker.wait_until_busy(SLOTS)
        waiting = [worker.send("POST", COMPLETIONS, LONG) for _ in range(SLOTS)]
        left(worker, waiting, SLOTS)
        return left(worker, answered)

    soon(attempt, subject.waiting_s)


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["garbage", "truncated"])
@pytest.mark.usefixtures("real")
def test_a_file_that_is_spoiled_has_a_typed_cause(
    subject: Subject, how: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The plan is of the whole one: planning refuses most of these before a process starts."""
    folder = tmp_path_factory.mktemp("spoiled")
    path = subject.model(folder)
    plan = subject.plan(path)
    file = subject.damage(path, how)
    with Worker(subject.make(), plan, folder) as worker:
        code = worker.end(READY_S)
        found = worker.engine.cause(plan, worker.log, code)
    assert isinstance(found, BadFile), worker.log[-2000:]
    assert str(file) in found.message or str(path) in found.message
