"""Samplers that llama.cpp does not have, against formulas written out in plain Python and tables done by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uml.sampling import penalties, shape, truncation
from uml.sampling.row import PART, SHORT, Candidates, best, drawn, softmax

Step = Callable[[Candidates], None]
few = settings(max_examples=60, deadline=None)
logits_lists = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=80)


def row_of(logits: Sequence[float]) -> Candidates:
    return Candidates(np.array(logits, np.float32))


def of_chances(*chances: float) -> Candidates:
    return row_of([math.log(chance) for chance in chances])


def tokens(row: Candidates) -> set[int]:
    return {row.token(place) for place in range(len(row)) if row.logits[place] > -np.inf}


def left(row: Candidates, step: Step) -> set[int]:
    step(row)
    return tokens(row)


def chances_of(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / sum(powers) for power in powers]


def ranked(chances: Sequence[float]) -> list[int]:
    return sorted(range(len(chances)), key=lambda token: -chances[token])


# --- by hand ------------------------------------------------------------------------------------------------------


def test_tables_done_by_hand() -> None:
    def four() -> Candidates:
        return of_chances(0.4, 0.1, 0.3, 0.2)

    assert left(four(), lambda row: truncation.epsilon_cutoff(row, 0.15, 0)) == {0, 2, 3}
    assert left(four(), lambda row: truncation.epsilon_cutoff(row, 0.9, 2)) == {0, 2}
    # the limit is 0.5 x 0.4^2 = 0.08, and with 1.0 it is 0.16
    assert left(four(), lambda row: truncation.top_a(row, 0.5, 0)) == {0, 1, 2, 3}
    assert left(four(), lambda row: truncation.top_a(row, 1.0, 0)) == {0, 2, 3}
    # entropy 1.2799, e^-entropy 0.2781: of 0.25 the root is 0.5 and the limit 0.139; of 0.01 it is 0.01
    assert left(four(), lambda row: truncation.eta_cutoff(row, 0.25, 0)) == {0, 2, 3}
    assert left(four(), lambda row: truncation.eta_cutoff(row, 0.01, 0)) == {0, 1, 2, 3}
    # entropy in terms 0.3665, 0.3612, 0.3219, 0.2303: sums 0.29, 0.57, 0.82 and 1 of it
    assert left(four(), lambda row: truncation.top_h(row, 0.6, 0)) == {0, 2}
    assert left(four(), lambda row: truncation.top_h(row, 0.1, 0)) == {0}
    # sorted 0.6 0.25 0.1 0.04 0.01: second differences 0.2, 0.09, 0.03 are 0.625, 0.906 and 1 of their sum
    five = (0.25, 0.6, 0.01, 0.1, 0.04)
    assert left(of_chances(*five), lambda row: truncation.tfs(row, 0.5, 0)) == {1}
    assert left(of_chances(*five), lambda row: truncation.tfs(row, 0.7, 0)) == {1}
    assert left(of_chances(*five), lambda row: truncation.tfs(row, 0.95, 0)) == {0, 1}
    assert left(of_chances(*five), lambda row: truncation.tfs(row, 0.7, 2)) == {0, 1}
    assert left(of_chances(*five), lambda row: truncation.tfs(row, 0.95, 3)) == {0, 1, 2, 3, 4}


def test_choices_at_the_top_are_excluded() -> None:
    def four() -> Candidates:
        return of_chances(0.4, 0.1, 0.3, 0.2)

    assert left(four(), lambda row: truncation.xtc(row, 0.15, 1, 0, 0)) == {3, 1}
    assert left(four(), lambda row: truncation.xtc(row, 0.35, 1, 0, 0)) == {0, 1, 2, 3}  # the only one stays
    assert left(four(), lambda row: truncation.xtc(row, 0.15, 0.5, 0, 0.6)) == {0, 1, 2, 3}  # not this time
    assert left(four(), lambda row: truncation.xtc(row, 0.15, 1, 3, 0)) == {0, 1, 2, 3}  # too few would stay


def test_smoothing_bends_around_the_best() -> None:
    for factor, curve in ((0.3, 1.0), (0.5, 2.0)):
        row = row_of([1, 4, 3, -np.inf])
        shape.quadratic_sampling(row, factor, curve)
        k, s = (3 - curve) / 2, (curve - 1) / 2
        expected = [4 - k * factor * d**2 + s * factor * d**3 for d in (-3, 0, -1)]
        assert row.logits.tolist() == pytest.approx([*expected, -np.inf])


def test_no_run_of_tokens_comes_twice() -> None:
    def banned(history: list[int], size: int) -> set[int]:
        row = row_of([0.0] * 6)
        penalties.no_repeat_ngram(row, np.array(history, np.int64), size)
        return set(range(6)) - tokens(row)

    assert banned([1, 2, 3, 1, 2], 3) == {3}
    assert banned([1, 2, 3, 1, 2, 4, 1, 2], 3) == {3, 4}
    assert banned([1, 2, 3], 1) == {1, 2, 3}
    assert banned([1, 1, 1], 2) == {1}
    assert banned([1, 2], 3) == banned([], 2) == banned([5, 4, 3, 2], 2) == set()


def test_a_penalty_below_one_favours_what_was_there() -> None:
    row = row_of([2.0, -2.0, 1.0])
    penalties.repetition_penalty(row, np.array([0, 1]), 0.5)
    assert row.logits.tolist() == [4.0, -1.0, 1.0]


def test_penalties_after_a_truncation_find_their_tokens() -> None:
    row = row_of([1.0, 5.0, 3.0, 4.0])
    truncation.top_k(row, 3)
    penalties.frequency_penalty(row, np.array([0, 2, 3, 9]), np.array([1, 2, 3, 4]), 0.5)
    assert {row.token(place): float(row.logits[place]) for place in range(3)} == {1: 5.0, 2: 2.0, 3: 2.5}


# --- against the formula, written out -----------------------------------------------------------------------------


def slow_tfs(chances: list[float], z: float) -> set[int]:
    order = ranked(chances)
    sorted_chances = [chances[token] for token in order]
    first = [a - b for a, b in pairwise(sorted_chances)]
    second = [abs(a - b) for a, b in pairwise(first)]
    total, reached = sum(second), 0.0
    for place, bend in enumerate(second):
        reached += bend / total
        if reached > z and place >= 1:
            return set(order[:place])
    return set(order)


def slow_eta(chances: list[float], epsilon: float) -> set[int]:
    entropy = -sum(chance * math.log(chance) for chance in chances if chance)
    limit = min(epsilon, math.sqrt(epsilon) * math.exp(-entropy))
    return {token for token, chance in enumerate(chances) if chance >= limit} | {ranked(chances)[0]}


def slow_top_h(chances: list[float], share: float) -> set[int]:
    order = ranked(chances)[:100]
    total = sum(chances[token] for token in order)
    terms = [-chances[token] / total * math.log(max(chances[token] / total, 1e-300)) for token in order]
    kept = {order[0]}
    for count in range(1, len(order) + 1):
        if sum(terms[:count]) <= share * sum(terms):
            kept |= set(order[:count])
    return kept


@few
@given(st.lists(st.integers(-100, 100), min_size=3, max_size=150, unique=True), st.floats(0.05, 0.95))
def test_formulas_written_out(twelfths: list[int], x: float) -> None:
    logits = [number / 12 for number in twelfths]
    chances = chances_of(logits)
    bends = np.abs(np.diff(sorted(chances, reverse=True), n=2))
    if bends.sum() > 1e-5 and np.abs(np.cumsum(bends) / bends.sum() - x).min() > 1e-4:
        assert left(row_of(logits), lambda row: truncation.tfs(row, x, 0)) == slow_tfs(chances, x)
    # What is within rounding of the limit may go either way.
    assert len(left(row_of(logits), lambda row: truncation.eta_cutoff(row, x, 0)) ^ slow_eta(chances, x)) <= 1
    assert len(left(row_of(logits), lambda row: truncation.top_h(row, x, 0)) ^ slow_top_h(chances, x)) <= 1
    above = {token for token, chance in enumerate(chances) if chance >= x * max(chances) ** 2}
    assert len(left(row_of(logits), lambda row: truncation.top_a(row, x, 0)) ^ above) <= 1


# --- properties ---------------------------------------------------------------------------------------------------

KEEP_THE_BEST: dict[str, Callable[[Candidates, float, int], None]] = {
    "top_p": truncation.top_p,
    "min_p": truncation.min_p,
    "top_a": truncation.top_a,
    "epsilon_cutoff": truncation.epsilon_cutoff,
    "eta_cutoff": truncation.eta_cutoff,
    "tfs": truncation.tfs,
    "top_h": truncation.top_h,
    "top_k": lambda row, x, keep: truncation.top_k(row, int(10 * x)),
    "top_n_sigma": lambda row, x, keep: truncation.top_n_sigma(row, x),
}


@pytest.mark.parametrize("name", KEEP_THE_BEST)
@few
@given(logits=logits_lists, x=st.floats(0.001, 0.999), keep=st.integers(0, 5), sort=st.booleans())
def test_the_best_survives_every_truncation(name: str, logits: list[float], x: float, keep: int, sort: bool) -> None:
    row = row_of(logits)
    if sort:
        row.keep_best(len(row))
    KEEP_THE_BEST[name](row, x, keep)
    assert max(logits) == pytest.approx(float(row.logits.max()))
    assert row.probabilities().sum() == pytest.approx(1)
    if name not in ("top_k", "top_n_sigma"):
        assert len(row) >= min(keep, len(logits))
    if row.ordered:
        assert (np.diff(row.logits) <= 0).all()


@few
@given(logits_lists, st.floats(0.05, 0.95), st.integers(0, 5))
def test_typical_tokens_reach_their_sum(logits: list[float], p: float, keep: int) -> None:
    row = row_of(logits)
    chances = softmax(row.logits)
    truncation.typical_p(row, p, keep)
    assert len(row) >= min(keep, len(logits))
    assert sum(chances[token] for token in tokens(row)) >= p - 1e-6


@few
@given(st.integers(0, 1 << 32), st.sampled_from([5, 64, 1000, 20_000]), st.integers(1, 300), st.booleans())
def test_the_best_are_those_of_a_sort(seed: int, size: int, count: int, coarse: bool) -> None:
    logits = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    if coarse:
        logits = np.round(logits, 1)  # many that are equal
    expected = np.argsort(-logits, kind="stable")[:count]
    assert best(logits, count).tolist() == expected.tolist()


@pytest.mark.parametrize("size", [1, 3, 200, 1000, 20_001])
def test_tokens_are_drawn_by_their_weight(size: int) -> None:
    random = np.random.default_rng(2)
    weights = random.random(size) * (random.random(size) > 0.3)
    weights[0] = max(weights[0], 0.1)
    # A long row is gone through in parts of every so-manyth element; what is left over comes last.
    parts = size // PART if size > SHORT else size
    whole = size // parts * parts
    order = np.concatenate([np.arange(whole).reshape(-1, parts).T.ravel(), np.arange(whole, size)])
    points = np.append(0, np.cumsum(weights[order]) / weights.sum())
    for uniform in (0.0, *random.random(50), math.nextafter(1, 0)):
        place = drawn(weights, uniform)
        at = int(np.flatnonzero(order == place)[0])
        assert weights[place] > 0 and points[at] - 1e-9 <= uniform <= points[at + 1] + 1e-9


def test_long_rows_are_truncated_as_short_ones_are() -> None:
    """Top-p and typical begin with few candidates and look at more when these do not do."""
    logits = np.random.default_rng(4).standard_normal(30_000).astype(np.float32)
    chances = softmax(logits.astype(np.float64))
    order = np.argsort(-chances)
    for p in (0.001, 0.05, 0.5, 0.999):
        row = Candidates(logits)
        truncation.top_p(row, p, 0)
        assert abs(len(row) - int(np.searchsorted(np.cumsum(chances[order]), p) + 1)) <= 3
        row = Candidates(logits)
        truncation.typical_p(row, p, 0)
        near = np.argsort(np.abs(-np.log(chances) + (chances * np.log(chances)).sum()), kind="stable")
        assert abs(len(row) - int(np.searchsorted(np.cumsum(chances[near]), p, side="right") + 1)) <= 3
