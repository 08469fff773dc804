"""Samplers that leave tokens out. Each keeps the likeliest candidate but for `typical_p` and `xtc`, which may not.

Where llama.cpp (`src/llama-sampler.cpp`, b11549) has a sampler, it is the same to the last comparison; `tests/sampling`
runs both side by side. `min_keep` is the least number of candidates that stay.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from uml.sampling.row import SHORT, Candidates, Floats, best, masked

FIRST: Final = 256
"""Candidates of a long row that are sorted at first where it is not known how many will be needed."""
MOST_TOP_H: Final = 100
"""Tokens that top-H looks at."""


def top_k(row: Candidates, k: int) -> None:
    """The k likeliest: Fan et al. 2018, arXiv 1805.04833."""
    row.keep_best(max(1, k))


def top_p(row: Candidates, p: float, min_keep: int) -> None:
    """The likeliest whose probabilities add up to p at least: Holtzman et al. 2020, arXiv 1904.09751."""
    _keep_best(row, max(_needed(row.probabilities(), p, ordered=row.ordered), min_keep, 1))


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
    limit = min(epsilon, math.sqrt(epsilon) * math.exp(-row.entropy()))
    _keep(row, row.probabilities() >= limit, min_keep)


def top_n_sigma(row: Candidates, n: float) -> None:
    """Those within n standard deviations below the highest logit: Tang et al. 2024, arXiv 2411.07641."""
    if len(row) < 2:
        return
    logits = row.logits
    most = logits.max()
    below, count = logits - most, len(row)
    total = below.sum()
    if np.isfinite(total):
        below -= total / np.float32(count)
    else:  # banned tokens are no part of the distribution
        there = logits > -np.inf
        count = int(np.count_nonzero(there))
        below = masked(below, there)
        below = masked(below - below.sum() / np.float32(count), there)
    deviation = math.sqrt(float(np.einsum("i,i->", below, below)) / count)
    _keep(row, logits >= most - np.float32(n * deviation), 1)


def typical_p(row: Candidates, p: float, min_keep: int) -> None:
    """Those whose surprise is nearest to the entropy, up to a sum of p: Meister et al. 2022, arXiv 2202.00666."""
    chances, size = row.probabilities(), len(row)
    farness = row.surprises()
    farness -= farness.dtype.type(row.entropy())
    np.abs(farness, out=farness)
    count = min(size, FIRST)
    while True:
        places = best(-farness, count)
        reached = np.flatnonzero(np.cumsum(chances[places], dtype=np.float64) > p)
        if len(reached) or count == size:
            break
        count = size if count > FIRST else min(size, 16 * FIRST)
    keep = max(int(reached[0]) + 1 if len(reached) else size, min_keep)
    if keep < size:
        kept = np.zeros(size, bool)
        kept[places[:keep] if keep <= count else best(-farness, keep)] = True
        row.keep(kept)


def tfs(row: Candidates, z: float, min_keep: int) -> None:
    """Tail-free: up to where the curve of sorted probabilities has done its bending. Phoenix & Egan 2019.

    As llama.cpp had it until b3982 (`llama_sampler_tail_free_apply`): kept are the first i tokens, where the absolute
    second differences up to the i-th (from 0, at least `min_keep` and 1), as a share of all, pass z; else all.
    """
    if len(row) < 3:
        return
    bends = np.abs(np.diff(np.sort(row.probabilities())[::-1], n=2))
    total = float(bends.sum(dtype=np.float64))
    shares = bends / total if total > 1e-6 else np.full(len(bends), 1 / len(bends))
    passed = np.flatnonzero(np.cumsum(shares, dtype=np.float64) > z)
    keep = max(int(passed[0]), min_keep, 1) if len(passed) else len(bends)
    if keep < len(bends):
        row.keep_best(keep)


def top_h(row: Candidates, share: float, min_keep: int) -> None:
    """The likeliest of 100 whose terms of the entropy add up to this share of it: arXiv 2509.02510.

    As in Transformers (`TopHLogitsWarper`): probabilities are those among the 100, and the first token always stays.
    """
    row.keep_best(MOST_TOP_H)
    chances = row.probabilities()
    # The smallest double in place of 0 makes its term 0.
    terms = -chances * np.log(np.maximum(chances, np.finfo(chances.dtype).tiny))
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
    row.keep(kept)


def _needed(chances: Floats, p: float, *, ordered: bool) -> int:
    """How many of the likeliest it takes to reach a sum of p; all of them where rounding keeps them below."""
    if not ordered:
        first = np.sort(chances[best(chances, FIRST)])[::-1] if len(chances) > 4 * FIRST else chances[:0]
        # Where few will not do, sorting the bare numbers still takes a tenth of sorting places.
        chances = first if first.sum(dtype=np.float64) >= p else np.sort(chances)[::-1]
    reached = np.flatnonzero(np.cumsum(chances, dtype=np.float64) >= p)
    return int(reached[0]) + 1 if len(reached) else len(chances)


def _keep_best(row: Candidates, count: int) -> None:
    """The likeliest: sorted where they are few, else in the order of their ids, for sorting takes long."""
    if count > SHORT and count < len(row) and not row.ordered:
        least = np.partition(row.logits, len(row) - count)[len(row) - count]
        kept = row.logits > least
        # Of those that are equal to the last one, the first.
        kept[np.flatnonzero(row.logits == least)[: count - int(np.count_nonzero(kept))]] = True
        row.keep(kept)
    elif count < len(row):
        row.keep_best(count)


def _keep(row: Candidates, mask: NDArray[np.bool_], min_keep: int) -> None:
    kept = int(np.count_nonzero(mask))
    least = max(1, min_keep)
    if kept < least:
        row.keep_best(least)
    elif kept < len(row):
        row.keep(mask)
