"""Nothing is silent: each parameter of requests, on each engine, changes the answer or is told to have no effect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.engines import contract
from tests.engines.contract import READY_S, SUBJECTS, Subject
from tests.engines.walk import CHANGES, ELSEWHERE, HOLDS, PLAIN
from tests.worker.process import Worker
from uml.generation import PARAMETERS, check, prepare
from uml.generation.parameters import SAMPLERS
from uml.sampling.settings import Settings

pytestmark = pytest.mark.timeout(400)
REAL = [name for name, subject in SUBJECTS.items() if subject.real]
SAMPLING = Path(__file__).parents[2] / "docs" / "sampling.md"


@pytest.fixture(scope="module", params=REAL)
def subject(request: pytest.FixtureRequest) -> Subject:
    return contract.subject_of(request.param)


@pytest.fixture(scope="module")
def worker(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("w")
    with Worker(subject.make(), subject.plan(subject.model(folder)), folder) as started:
        yield started.ready(READY_S)


def answer(worker: Worker, asked: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The choice, as the gateway would have it asked for, and the parameters that were told to have no effect."""
    prepared = prepare(check("completion", asked), worker.engine.spec, contract.CONTEXT)
    whole = worker.post("/v1/completions", prepared.body if prepared.body is not None else dict(asked))
    told = [*prepared.warnings, *whole.get("warnings", ())]
    return {**whole["choices"][0], "whole": whole}, {warning["param"] for warning in told}


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a reader of two answers sees the same, but for roundings: text, end, and likeliest tokens."""
    if (one["text"], one["finish_reason"]) != (other["text"], other["finish_reason"]):
        return False
    places = [
        [_values(token) for token in (choice.get("logprobs") or {}).get("content") or []] for choice in (one, other)
    ]
    if [len(place) for place in places[0]] != [len(place) for place in places[1]]:
        return False
    pairs = zip(*places, strict=True)
    return all(abs(first[id] - second[id]) < 0.02 for first, second in pairs for id in first.keys() & second.keys())


def _values(token: Mapping[str, Any]) -> dict[int, float]:
    return {one["id"]: one["prob"] if "prob" in one else one["logprob"] for one in _top(token)}


def _top(token: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = token.get("top_probs") or token.get("top_logprobs") or []
    return found


def likeliest(choice: Mapping[str, Any]) -> dict[str, Any]:
    return _top(choice["logprobs"]["content"][0])[0]


def test_every_parameter_is_walked_through() -> None:
    walked = {*CHANGES, *HOLDS, *ELSEWHERE}
    generating = [one for one in PARAMETERS if set(one.endpoints) & {"chat", "completion", "embedding"}]
    known = {one.name for one in generating if not (one.inert or one.ours or one.name == "strict")}
    specs = [SUBJECTS[name].make().spec for name in REAL]
    nobody = {name for name in known if all(spec.dialect.get(name) is None for spec in specs)}
    assert known - walked - nobody - LLAMACPP_ONLY == set(), "say what it changes, or where that is tested"
    assert set(SAMPLERS) - nobody - {"plugin_samplers"} <= set(CHANGES)


LLAMACPP_ONLY = {
    *("t_max_predict_ms", "n_indent", "n_keep", "n_discard", "return_progress", "timings_per_token"),
}
"""tests/worker has them: they are of one engine's own server, and others tell that they lack them."""


@pytest.mark.parametrize("name", CHANGES)
def test_it_changes_the_answer_or_is_told(worker: Worker, name: str) -> None:
    case = CHANGES[name]
    base = {key: value for key, value in {**PLAIN, **case.beside}.items() if key != name or name in PLAIN}
    if name in case.beside:
        base[name] = case.beside[name]
    without, _ = answer(worker, base)
    assert alike(answer(worker, base)[0], without), "the same twice is the same, or nothing can be told"
    value: Any = case.value
    if value in ("LIKELIEST", ["LIKELIEST"]):
        best = likeliest(without)
        value = str(best["id"]) if value == "LIKELIEST" else [best["token"].strip()]
    if value == ["MIDDLE"]:
        middle = len(without["text"]) // 2
        value = [without["text"][middle : middle + 2]]
    found, told = answer(worker, {**base, name: value})
    if name in told:
        assert alike(found, without), "it is told to have no effect, and has one"
        assert worker.engine.spec.dialect.get(name) is None
    else:
        assert not alike(found, without), f"{name} went by without a word: {without['text']!r}"


@pytest.mark.parametrize("name", HOLDS)
def test_it_is_in_the_answer_or_is_told(worker: Worker, name: str) -> None:
    value, holds = HOLDS[name]
    found, told = answer(worker, {"prompt": "Two plus two is", "max_tokens": 4, "temperature": 0, name: value})
    assert holds(found) or name in told, (name, found)


def test_the_page_of_samplers_is_true() -> None:
    """docs/sampling.md as data: which parameters it names, and what is off."""
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", SAMPLING.read_text("utf-8"), re.MULTILINE)
    named: set[str] = set()
    for samplers, parameters, off in rows:
        own = re.findall(r"`(\w+)`", samplers)
        given = [*(own if "the same" in parameters else ()), *re.findall(r"`(\w+)`", parameters)]
        named |= set(given)
        for name in own if "the same" in parameters else given[:1]:
            default = getattr(Settings(), name)
            expected = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}.get(name, float(off.split()[0]))
            assert default == expected or (off.strip() == "0 or less" and default <= 0), (name, default, off)
    apart = {"do_sample", "sampler_priority", "temperature_last", "plugin_samplers", "logit_bias", "custom_token_bans"}
    apart |= {"guidance_scale", "negative_prompt"}
    lacking = {"penalty_alpha"}
    assert set(SAMPLERS) - named - apart - lacking - {"min_keep"} == set()
