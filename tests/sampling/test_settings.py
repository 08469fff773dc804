"""What requests ask of the samplers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from uml.core.errors import BadRequest
from uml.generation import PARAMETERS
from uml.sampling import order
from uml.sampling.settings import BOOLEANS, DIALECT, INTEGERS, MOST_TEXTS, NUMBERS, STRUCTURES, Settings


def test_defaults_are_those_of_llama_cpp() -> None:
    from xllamacpp import CommonParams

    theirs, ours = CommonParams().sampling, Settings()
    names = {
        "temp": "temperature", "typ_p": "typical_p", "penalty_last_n": "repetition_penalty_range",
        "penalty_repeat": "repetition_penalty", "penalty_freq": "frequency_penalty",
        "penalty_present": "presence_penalty", "mirostat": "mirostat_mode",
    }  # fmt: skip
    same = (
        *("top_k", "top_p", "min_p", "xtc_probability", "xtc_threshold", "min_keep", "dynatemp_range"),
        *("dynatemp_exponent", "mirostat_tau", "mirostat_eta", "dry_multiplier", "dry_base", "dry_allowed_length"),
        *("dry_penalty_last_n", "adaptive_target", "adaptive_decay", "ignore_eos"),
    )
    for their, our in {**names, **{name: name for name in same}}.items():
        assert getattr(ours, our) == pytest.approx(getattr(theirs, their)), our
    their_order = order.resolve(theirs.samplers)
    assert their_order == tuple(name for name in order.DEFAULT if name in their_order)


def test_ranges_are_those_of_the_gateway() -> None:
    declared = {parameter.name: parameter for parameter in PARAMETERS}
    for name, bounds in {**INTEGERS, **NUMBERS}.items():
        assert (declared[name].low, declared[name].high) == bounds, name
    assert all(declared[name].kind == "integer" for name in INTEGERS)
    assert all(declared[name].kind == "number" for name in NUMBERS)
    assert all(declared[name].kind == "boolean" for name in BOOLEANS)
    assert {name: declared[name].high for name in MOST_TEXTS} == dict(MOST_TEXTS)
    assert {*DIALECT, *STRUCTURES} <= declared.keys()


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        ({"top_p": 1.5}, "top_p", "top_p is 1.5; expected a number from 0 to 1"),
        ({"temperature": "hot"}, "temperature", "expected a number from 0 to 100"),
        ({"temperature": float("nan")}, "temperature", "is nan"),
        ({"min_p": True}, "min_p", "is true"),
        ({"top_k": 1.5}, "top_k", "a whole number from -1 to 2147483647"),
        ({"do_sample": 1}, "do_sample", "true or false"),
        ({"banned_strings": [1]}, "banned_strings", "a list of texts, 768 at most"),
        ({"banned_strings": ["a"] * 769}, "banned_strings", "768 at most"),
        ({"logit_bias": 3}, "logit_bias", "an object of token ids"),
        ({"logit_bias": [[1]]}, "logit_bias", "an object of token ids"),
        ({"logit_bias": [[-1, 2]]}, "logit_bias", "number or false"),
        ({"logit_bias": {"1": float("inf")}}, "logit_bias", "an object of token ids"),
        ({"logit_bias": {"1": True}}, "logit_bias", "an object of token ids"),
        ({"sampler_priority": ["top_k", "top_q"]}, "sampler_priority", "no sampler 'top_q'; known are"),
        ({"sampler_priority": 3}, "sampler_priority", "a list of samplers"),
        ({"sampler_priority": [["top_k"]]}, "sampler_priority", "no sampler"),
        ({"top_logprobs": 101}, "top_logprobs", "from 0 to 100"),
        ({"logprobs": "yes"}, "logprobs", "true, false or a whole number"),
        ({"dynamic_temperature": True, "dynatemp_low": 2}, "dynatemp_low", "2 is above dynatemp_high 1"),
    ],
)
def test_what_is_out_of_range_is_a_sentence(request_: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Settings.of(request_)
    assert caught.value.param == param and words in str(caught.value)


def test_what_is_given_counts_over_defaults_and_null_is_nothing() -> None:
    settings = Settings.of({"top_k": 5.0, "top_p": None, "unknown": 1}, {"top_k": 50, "top_p": 0.8, "min_p": 0})
    assert (settings.top_k, settings.top_p, settings.min_p, settings.temperature) == (5, 0.8, 0, 0.8)
    assert type(settings.top_k) is int
    assert Settings.of({}) == Settings()
    # A text is all its tokens, as llama.cpp takes it; so is what only looks like a number.
    biases = Settings.of({"logit_bias": {"7": -3, "word": False, "-1": 2}}).logit_bias
    assert biases == ((7, -3.0), ("word", float("-inf")), ("-1", 2.0))
    assert Settings.of({"dry_sequence_breakers": "ab"}).dry_sequence_breakers == ("ab",)


def test_greedy_is_a_temperature_of_nothing() -> None:
    assert Settings.of({"temperature": 0}).greedy
    assert Settings.of({"do_sample": False, "temperature": 2}).greedy
    assert Settings.of({}, {"do_sample": False}).greedy
    assert not Settings.of({"temperature": 1}, {"do_sample": False}).greedy
    assert not Settings.of({"temperature": 0, "dynatemp_range": 1}).greedy
    assert not Settings.of({"temperature": 0, "mirostat_mode": 2}).greedy
    assert Settings.of({"dynamic_temperature": True, "dynatemp_low": 0.5, "dynatemp_high": 2}).temperatures == (0.5, 2)
    assert Settings.of({"temperature": 1, "dynatemp_range": 2}).temperatures == (0, 3)


def test_the_order_is_the_one_given() -> None:
    def given(names: Any, **more: Any) -> tuple[str, ...]:
        return Settings.of({"sampler_priority": names, **more}).order[:-2]

    assert given(["temperature", "top_k", "temperature"]) == ("temperature", "top_k")
    assert given("penalties;top_k, typ_p") == (
        *("repetition_penalty", "presence_penalty", "frequency_penalty"),
        *("top_k", "typical_p"),
    )
    assert given(["temperature", "top_k"], temperature_last=True) == ("top_k", "temperature")
    assert given(["adaptive_p", "quadratic_sampling"]) == ("quadratic_sampling",)
    assert Settings.of({"sampler_priority": []}).order == ("mirostat", "adaptive_p")
    assert Settings.of({"temperature_last": True}).order.index("temperature") == len(order.DEFAULT) - 3


def test_probabilities_are_told_when_asked_for() -> None:
    def asked(**request: Any) -> int | None:
        return Settings.of(request).alternatives

    assert asked() is asked(logprobs=False) is asked(logprobs=None) is None
    assert asked(logprobs=True) == asked(logprobs=0) == 0
    assert asked(logprobs=True, top_logprobs=3) == asked(logprobs=3) == asked(n_probs=3) == 3


def test_what_cannot_have_an_effect_is_told() -> None:
    def told(**request: Any) -> list[tuple[str, str]]:
        return [(notice["param"], notice["reason"]) for notice in Settings.of(request).notices]

    assert told(top_a=0.1, mirostat_mode=0) == []
    assert told(sampler_priority=["top_k"], top_a=0.1) == [("top_a", "sampler_priority does not name top_a")]
    assert told(sampler_priority=["top_k"], dry_multiplier=1) == [
        ("dry_multiplier", "sampler_priority does not name dry")
    ]
    assert told(mirostat_mode=2, min_p=0.3, repetition_penalty=1.2) == [
        ("min_p", "Mirostat truncates by itself, in its place")
    ]
    assert told(mirostat_mode=1, adaptive_target=0.5) == [("adaptive_target", "Mirostat chooses the token")]
    assert told(sampler_priority=["top_k"]) == []


def test_settings_are_read_without_numpy() -> None:
    code = "import sys, uml.sampling.settings; print([m for m in ('numpy', 'llguidance') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_core_starts_without_numpy() -> None:
    code = (
        "import sys, uml.house, uml.gateway.app, uml.cli.app, uml.engines, uml.worker.app;"
        "print([m for m in ('numpy', 'llguidance', 'uml.sampling.chain', 'uml.sampling.grammar') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_about_samplers_has_them_all_in_their_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sampling.md").read_text("utf-8")
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name for cell in cells for name in re.findall("`([a-z_]+)`", cell)] == list(order.DEFAULT)
    parameters = {name for name in (*NUMBERS, *INTEGERS) if name not in ("seed", "min_keep")}
    assert parameters <= set(re.findall("`([a-z_]+)`", page))
