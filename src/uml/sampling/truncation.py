"""Samplers that leave tokens out. Each keeps the likeliest candidate but for `typical_p` and `xtc`, which may not.

Where llama.cpp (`src/llama-sampler.cpp`, b11549) has a sampler, it is the same to the last comparison; `tests/sampling`
runs both side by side. `min_keep` is the least number of candidates that stay.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from uml.sampling.row import Candidates, Floats, best

FIRST: Final = 256
"""Candidates of a long row that are sorted at first where it is not known how many will be needed."""
MOST_TOP_H: Final = 100
"""Tokens that top-H looks at."""


def top_k(row: Candidates, k: int) -> None:
    """The k likeliest: Fan et al. 2018, arXiv 1805.04833."""
    row.keep_best(max(1, k))


def top_p(row: Candidates, p: float, min_keep: int) -> None:
    """The likeliest whose probabilities add up to p at least: Holtzman et al. 2020, arXiv 1904.09751."""
    chances = row.probabilities()
    size = len(row)
    count = size if row.ordered else min(size, FIRST)
    while True:
        places = np.arange(count) if row.ordered else best(row.logits, count)
        reached = np.flatnonzero(np.cumsum(chances[places], dtype=np.float64) >= p)
        if len(reached) or count == size:
            break
        count = min(size, count * 8)
    keep = max(int(reached[0]) + 1 if len(reached) else size, min_keep, 1)
    if keep > count:
        row.keep_best(keep)
    elif keep < size or not row.ordered:
        row.take(places[:keep], ordered=True)


def min_p(row: Candidates, p: float, min_keep: int) -> None:
    """Those at least p times as likely as the likeliest: Nguyen et al. 2024, arXiv 2407.01082."""
    _keep(row, row.logits >= row.logits.max() + np.float32(math.log(p)), min_keep)


def top_a(row: Candidates, a: float, min_keep: int) -> None:
    """Those at least as likely as a times the square of the likeliest: KoboldAI, `AdvancedLogitsWarper`."""
    chances = row.probabilities()
    _keep(row, chances >= a * float(chances.max()) ** 2, min_keep)


def epsilon_cutoff(row: Candidates, epsilon: float, min_keep: int) -> None:
    """Those with a probability of epsilon at least: Hewitt et al. 2022, arXiv 2210.15191, section 3.2."""
    _keep(row, row.probabilities() >= epsilon, min_keep)


def eta_cutoff(row: Candidates, epsilon: float, min_keep: int) -> None:
    """As epsilon, but never more than sqrt(epsilon) exp(-entropy): Hewitt et al. 2022, arXiv 2210.15191, section 4."""
    chances = row.probabilities()
    _keep(row, chances >= min(epsilon, math.sqrt(epsilon) * math.exp(-entropy(chances))), min_keep)


def top_n_sigma(row: Candidates, n: float) -> None:
    """Those within n standard deviations below the highest logit: Tang et al. 2024, arXiv 2411.07641."""
    if len(row) < 2:
        return
    logits = row.logits
    most = logits.max()
    below = logits - most
    total = float(below.sum(dtype=np.float64))
    if not math.isfinite(total):  # banned tokens are no part of the distribution
        below = below[logits > -np.inf]
        total = float(below.sum(dtype=np.float64))
    mean = total / len(below)
    below -= np.float32(mean)
    deviation = math.sqrt(float(np.square(below, out=below).sum(dtype=np.float64)) / len(below))
    _keep(row, logits >= most - np.float32(n * deviation), 1)


def typical_p(row: Candidates, p: float, min_keep: int) -> None:
    """Those whose surprise is nearest to the entropy, up to a sum of p: Meister et al. 2022, arXiv 2202.00666."""
    chances = row.probabilities()
    with np.errstate(divide="ignore"):
        surprise = -np.log(chances)
    nearness = -np.abs(surprise - entropy(chances))
    size = len(row)
    count = min(size, 4 * FIRST)
    while True:
        places = best(nearness, count)
        reached = np.flatnonzero(np.cumsum(chances[places], dtype=np.float64) > p)
        if len(reached) or count == size:
            break
        count = min(size, count * 8)
    keep = max(int(reached[0]) + 1 if len(reached) else size, min_keep)
    if keep > count:
        places = best(nearness, keep)
    row.take(np.sort(places[:keep]), ordered=row.ordered)


def tfs(row: Candidates, z: float, min_keep: int) -> None:
    """Tail-free: up to where the curve of sorted probabilities has done its bending. Phoenix & Egan 2019.

    As llama.cpp had it until b3982 (`llama_sampler_tail_free_apply`): kept are the first i tokens, where the absolute
    second differences up to the i-th (from 0, at least `min_keep` and 1), as a share of all, pass z; else all.
    """
    if len(row) < 3:
        return
    row.sort()
    bends = np.abs(np.diff(row.probabilities(), n=2))
    total = float(bends.sum(dtype=np.float64))
    shares = bends / total if total > 1e-6 else np.full(len(bends), 1 / len(bends))
    passed = np.flatnonzero(np.cumsum(shares, dtype=np.float64) > z)
    keep = max(int(passed[0]), min_keep, 1) if len(passed) else len(bends)
    row.keep_best(keep if keep < len(bends) else len(row))


def top_h(row: Candidates, share: float, min_keep: int) -> None:
    """The likeliest of 100 whose terms of the entropy add up to this share of it: arXiv 2509.02510.

    As in Transformers (`TopHLogitsWarper`): probabilities are those among the 100, and the first token always stays.
    """
    row.keep_best(MOST_TOP_H)
    chances = row.probabilities()
    terms = _terms(chances)
    within = int(np.count_nonzero(np.cumsum(terms) <= share * terms.sum()))
    row.keep_best(max(within, min_keep, 1))


def xtc(row: Candidates, threshold: float, probability: float, min_keep: int, uniform: float) -> None:
    """Exclude top choices: of those at least as likely as the threshold, only the least likely stays.

    By p-e-w (text-generation-webui, pull request 6335). uniform: from [0, 1); nothing happens above `probability`.
    """
    if threshold > 0.5 or len(row) < 2 or uniform > probability:
        return
    chances = row.probabilities()
    above = np.flatnonzero(chances >= threshold)
    if len(above) < 2 or len(row) - len(above) + 1 < min_keep:
        return
    ranked = above[np.argsort(-chances[above], kind="stable")]
    kept = np.ones(len(row), bool)
    kept[ranked[:-1]] = False
    row.take(kept, ordered=row.ordered)


def entropy(chances: Floats) -> float:
    """In nats; what has no probability adds nothing."""
    return float(_terms(chances).sum(dtype=np.float64))


def _terms(chances: Floats) -> Floats:
    # The smallest double in place of 0 makes its term 0, without a second pass over the row.
    terms: Floats = -chances * np.log(np.maximum(chances, np.finfo(chances.dtype).tiny))
    return terms


def _keep(row: Candidates, mask: NDArray[np.bool_], min_keep: int) -> None:
    kept = int(np.count_nonzero(mask))
    least = max(1, min_keep)
    if kept < least:
        row.keep_best(least)
    elif kept < len(row):
        row.take(mask, ordered=row.ordered)
