"""Which requests ExLlamaV3's own steps answer, and by which of them."""

from __future__ import annotations

from typing import Any

import pytest

from uml.engines.exllama.quick import WHOLE, Step, steps_of
from uml.sampling.settings import Settings

OFF: dict[str, Any] = {"top_k": 0, "top_p": 1, "min_p": 0, "temperature": 1}


def steps(guided: bool = False, **request: Any) -> list[Step] | None:
    return steps_of(Settings.of(request), [2, 1], guided=guided)


def test_defaults_act_in_the_chains_order() -> None:
    truncated = [("SS_TopK", (40,)), ("SS_TopP", (0.95,)), ("SS_MinP", (0.05,))]
    assert steps() == [*truncated, ("SS_Temperature", (0.8,)), ("SS_Sample", ())]
    assert steps(temperature_last=True, temperature=1) == [*truncated, ("SS_Sample", ())]
    assert steps(**OFF) == [("SS_Sample", ())]


def test_an_order_is_kept_where_the_steps_can_act_in_it() -> None:
    order = ["presence_penalty", "penalties", "temperature", "min_p", "top_k"]
    asked: dict[str, Any] = {"presence_penalty": -0.5, "repetition_penalty": 1.2, "repetition_penalty_range": -1}
    assert steps(sampler_priority=order, **asked) == [
        *[("SS_PresFreqP", (-0.5, 0.0, WHOLE, 0)), ("SS_RepP", (1.2, WHOLE, 0))],
        *[("SS_Temperature", (0.8,)), ("SS_MinP", (0.05,)), ("SS_TopK", (40,)), ("SS_Sample", ())],
    ]
    assert steps(sampler_priority=["min_p", "penalties"], **asked) is None
    assert steps(sampler_priority=["min_p", "penalties"]) is not None, "a penalty that is off is nowhere"
    assert steps(repetition_penalty=1.2, repetition_penalty_range=0, **OFF) == [("SS_Sample", ())]


def test_the_likeliest_token_needs_no_truncation() -> None:
    penalty = ("SS_RepP", (1.2, 64, 0))
    likeliest: tuple[dict[str, Any], ...] = ({"temperature": 0}, {"top_k": 1}, {"do_sample": False})
    for most in likeliest:
        assert steps(repetition_penalty=1.2, **most) == [penalty, ("SS_Argmax", ())]
    assert steps(repetition_penalty=1.2, temperature=0, sampler_priority=["temperature", "penalties"]) is None


def test_ends_and_biases() -> None:
    never = -float("inf")
    assert steps(ignore_eos=True, logit_bias={"1": 5, "7": 2}, **OFF) == [
        ("SS_LogitBias", ({1: never, 2: never, 7: 2.0},)),
        ("SS_Sample", ()),
    ]
    assert steps(min_tokens=3, **OFF) == steps(guided=True, **OFF) == [("SS_Sample", ())]
    assert steps(min_tokens=3, guided=True) is steps(ignore_eos=True, guided=True) is None
    assert steps(logit_bias=[["a text", 2]]) is None


@pytest.mark.parametrize(
    "more",
    [
        {"xtc_probability": 0.5},
        {"dry_multiplier": 0.8},
        {"adaptive_target": 0.5},
        {"typical_p": 0.9},
        {"min_keep": 5},
        {"mirostat_mode": 2},
        {"dynatemp_range": 0.5},
        {"smoothing_factor": 0.2},
        {"encoder_repetition_penalty": 1.1},
        {"no_repeat_ngram_size": 3},
        {"top_n_sigma": 1},
        {"logprobs": True},
        {"temperature": 0.1},
    ],
)
def test_what_means_more_is_the_chains(more: dict[str, Any]) -> None:
    assert steps(**more) is None
