"""Where llama.cpp has a sampler, ours leaves the same tokens with the same logits: both run side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sampling import llamacpp
from uml.sampling import penalties, selection, shape, truncation
from uml.sampling.history import Counts, History
from uml.sampling.row import Candidates, softmax

Row = Candidates
Floats = llamacpp.Floats

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


def logits_of(seed: int, size: int, width: float) -> Floats:
    return (np.random.default_rng(seed).standard_normal(size) * width).astype(np.float32)


rows = st.builds(
    logits_of, st.integers(0, 1 << 32), st.sampled_from([2, 3, 17, 300, 2000]), st.sampled_from([0.5, 2, 5])
)


def left(row: Row) -> dict[int, float]:
    return {row.token(place): float(logit) for place, logit in enumerate(row.logits) if logit > -np.inf}


def same(ours: dict[int, float], theirs: dict[int, float], off: float = 2e-5) -> None:
    assert ours.keys() == theirs.keys()
    tokens = list(ours)
    np.testing.assert_allclose([ours[t] for t in tokens], [theirs[t] for t in tokens], rtol=off, atol=off)


def nearly_same(ours: dict[int, float], theirs: dict[int, float], border: int = 1) -> None:
    """Their sums are in single precision: at the very border, the last token may be another."""
    assert len(ours.keys() ^ theirs.keys()) <= border
    both = ours.keys() & theirs.keys()
    same({token: ours[token] for token in both}, {token: theirs[token] for token in both})


def after(logits: Floats, step: Callable[[Row], None]) -> dict[int, float]:
    row = Row(logits)
    step(row)
    return left(row)


@few
@given(rows, st.floats(0.01, 0.99), st.integers(0, 5))
def test_truncations_leave_the_same_tokens(logits: Floats, p: float, keep: int) -> None:
    steps: dict[tuple[Any, ...], Callable[[Row], None]] = {
        ("top_k", 1 + keep): lambda row: truncation.top_k(row, 1 + keep),
        ("min_p", p, keep): lambda row: truncation.min_p(row, p, keep),
        ("top_n_sigma", 3 * p): lambda row: truncation.top_n_sigma(row, 3 * p),
        ("xtc", 1.0, p, keep, 1): lambda row: truncation.xtc(row, p, 1.0, keep, 0.0),
    }
    for arguments, step in steps.items():
        with llamacpp.sampler(*arguments) as theirs:
            nearly_same(after(logits, step), theirs.apply(logits).logits, border=int(arguments[0] != "top_k"))


@few
@given(rows, st.floats(0.1, 3), st.integers(0, 1 << 32))
def test_banned_tokens_are_no_part_of_the_deviation(logits: Floats, n: float, seed: int) -> None:
    banned = logits.copy()
    banned[1:][np.random.default_rng(seed).random(len(logits) - 1) < 0.5] = -np.inf
    with llamacpp.sampler("top_n_sigma", n) as theirs:
        nearly_same(after(banned, lambda row: truncation.top_n_sigma(row, n)), theirs.apply(banned).logits)


@few
@given(rows, st.sampled_from([0.1, 0.35, 0.5, 0.7, 0.9, 0.97]), st.integers(0, 5))
def test_sums_of_probabilities_end_at_the_same_token(logits: Floats, p: float, keep: int) -> None:
    for name, step in (("top_p", truncation.top_p), ("typical", truncation.typical_p)):
        with llamacpp.sampler(name, p, keep) as theirs:
            ours = after(logits, lambda row, step=step: step(row, p, keep))  # type: ignore[misc]
            # Two tokens may be equally far from what is typical.
            nearly_same(ours, theirs.apply(logits).logits, border=1 if name == "top_p" else 2)


@few
@given(rows, st.floats(0.1, 2), st.sampled_from([0.0, 0.3, 3.0]), st.sampled_from([0.5, 1.0, 2.0]))
def test_temperatures(logits: Floats, degree: float, span: float, exponent: float) -> None:
    with llamacpp.sampler("temp_ext", degree, span, exponent) as theirs:
        expected = theirs.apply(logits).logits
    low, high = max(0.0, degree - span), degree + span
    ours = after(logits, lambda row: shape.temperature(row, low, high, exponent))
    chances = softmax(np.array([expected[token] for token in range(len(logits))], np.float32))
    mine = softmax(np.array([ours.get(token, -np.inf) for token in range(len(logits))], np.float32))
    np.testing.assert_allclose(mine, chances, atol=1e-3)  # theirs has the entropy in single precision


@few
@given(
    rows,
    st.lists(st.integers(0, 1), max_size=40),
    st.integers(1, 30),
    st.sampled_from([0.5, 1.0, 1.3]),
    st.sampled_from([-0.7, 0.0, 0.4]),
    st.sampled_from([-0.3, 0.0, 1.1]),
)
def test_penalties(
    logits: Floats, text: list[int], window: int, repetition: float, frequency: float, presence: float
) -> None:
    with llamacpp.sampler("penalties", len(logits), window, repetition, frequency, presence) as theirs:
        theirs.accept(text)
        expected = theirs.apply(logits).logits
    history = History(text[: len(text) // 2])
    counts = Counts(history, window)
    for token in text[len(text) // 2 :]:
        history.add(token)
        counts.now()
    row = Row(logits)
    tokens, numbers = counts.now()
    penalties.repetition_penalty(row, tokens, repetition)
    penalties.presence_penalty(row, tokens, presence)
    penalties.frequency_penalty(row, tokens, numbers, frequency)
    same(left(row), expected)


@pytest.mark.skipif(not llamacpp.has_dry(), reason="this build of the library has DRY under another name")
@few
@given(
    st.lists(st.integers(0, 4), max_size=60),
    st.integers(0, 3),
    st.integers(1, 70),
    st.sampled_from([1.0, 1.2, 1.75]),
    st.sets(st.integers(0, 4), max_size=2),
)
def test_dry(text: list[int], allowed: int, window: int, base: float, breakers: set[int]) -> None:
    logits = np.zeros(6, np.float32)
    with llamacpp.dry_sampler(0.8, base, allowed, window, [[breaker] for breaker in sorted(breakers)]) as theirs:
        theirs.accept(text)
        expected = theirs.apply(logits).logits
    seen = np.array(text[-window:] if text else [], np.int64)
    row = Row(logits)
    penalties.dry(
        row,
        seen,
        np.isin(seen, list(breakers)),
        multiplier=0.8,
        base=base,
        allowed=allowed,
        breaker=breakers.__contains__,
    )
    same(left(row), expected)


@few
@given(rows, st.sampled_from([1.0, 3.0, 5.0]))
def test_mirostat_leaves_the_same_tokens(logits: Floats, tau: float) -> None:
    for version in (1, 2):
        arguments = ("mirostat", len(logits), 1, tau, 0.1, 100) if version == 1 else ("mirostat_v2", 1, tau, 0.1)
        row, ours = Row(logits), selection.Mirostat(version, tau, 0.1, len(logits))
        ours.choose(row, 0.5)
        with llamacpp.sampler(*arguments) as theirs:
            expected = theirs.apply(logits).logits
        if version == 1 and len(expected) == 1 and len(row) == len(logits):
            continue  # they mean all of a flat row, too, but a count beyond 31 bits becomes 1
        nearly_same(left(row), expected)


def test_mirostat_learns_what_llama_cpp_learns() -> None:
    logits = logits_of(1, 300, 3)
    for version in (1, 2):
        arguments = ("mirostat", 300, 1, 2.0, 0.3, 100) if version == 1 else ("mirostat_v2", 1, 2.0, 0.3)
        ours = selection.Mirostat(version, 2.0, 0.3, 300)
        with llamacpp.sampler(*arguments) as theirs:
            for _ in range(30):
                found = theirs.apply(logits)
                row = Row(logits)
                # Ours is made to choose what theirs chose: the sum of what stands before it, and a hair.
                trial = selection.Mirostat(version, 2.0, 0.3, 300)
                trial.mu = ours.mu
                trial.choose(row, 0.5)
                assert left(row).keys() == found.logits.keys()
                chances, place = row.probabilities(), [row.token(i) for i in range(len(row))].index(found.chosen or 0)
                ours.choose(Row(logits), float(chances[:place].sum() + chances[place] / 2))


@few
@given(rows, st.floats(0.05, 0.95), st.floats(0, 0.99))
def test_adaptive_p_reshapes_alike(logits: Floats, target: float, decay: float) -> None:
    row = Row(logits)
    selection.Adaptive(target, decay).choose(row, 0.5)
    with llamacpp.sampler("adaptive_p", target, decay, 1) as theirs:
        # Theirs adds the probabilities up in single precision.
        same(left(row), theirs.apply(logits).logits, off=5e-4)


def test_adaptive_p_remembers_alike() -> None:
    logits, ours = logits_of(5, 50, 2), selection.Adaptive(0.4, 0.8)
    with llamacpp.sampler("adaptive_p", 0.4, 0.8, 1) as theirs:
        for _ in range(20):
            found = theirs.apply(logits)
            assert found.chosen is not None
            theirs.accept([found.chosen])
            row = Row(np.array([found.logits[token] for token in range(50)], np.float32))
            chances = row.probabilities()
            uniform = float(chances[: found.chosen].sum() + chances[found.chosen] / 2)
            mine = Row(logits)
            assert ours.choose(mine, uniform) == found.chosen
            same(left(mine), found.logits, off=5e-4)


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_xtc_happens_as_often_as_it_should(probability: float) -> None:
    logits, random = np.array([3, 2.9, 0], np.float32), np.random.default_rng(1)
    happened = sum(
        len(after(logits, lambda row: truncation.xtc(row, 0.1, probability, 0, random.random()))) == 2
        for _ in range(2000)
    )
    assert abs(happened / 2000 - probability) < 0.04
