"""The last step: one token out of the candidates, by chance or by what earlier tokens were like."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from uml.sampling.row import Candidates, best, drawn

MIROSTAT_TOKENS: Final = 100
"""Likeliest tokens from which Mirostat 1 estimates the exponent: `m` in the paper and in llama.cpp."""
PEAK, SHARPNESS, WIDTH = 5.0, 10.0, 0.3
"""Shape of adaptive-p: `PEAK_LOGIT_VALUE`, `SHARPNESS`, `DISTRIBUTION_WIDTH` in llama.cpp."""


def likeliest(row: Candidates) -> int:
    """The place of the highest logit, the lowest id of several."""
    return 0 if row.ordered else int(row.logits.argmax())


def by_chance(row: Candidates, uniform: float) -> int:
    """The place that a number from [0, 1) falls on."""
    return drawn(row.probabilities(), uniform)


@dataclass(slots=True)
class Mirostat:
    """Keeps the surprise of the text near tau: Basu et al. 2021, arXiv 2007.14966; version 1 or 2, as in llama.cpp.

    size: of the vocabulary. mu: twice tau at first; moves by eta times what each token was off.
    """

    version: int
    tau: float
    eta: float
    size: int
    mu: float = field(init=False)

    def __post_init__(self) -> None:
        self.mu = 2 * self.tau

    def choose(self, row: Candidates, uniform: float) -> int:
        """Truncate, choose, and learn from the choice."""
        if self.version == 1:
            row.keep_best(self._count(row))
        else:
            kept = row.surprises() <= self.mu * math.log(2)
            if kept.any():
                row.keep(kept)
            else:
                row.keep_best(1)
        place = by_chance(row, uniform)
        surprise = -math.log2(float(row.probabilities()[place]))
        self.mu -= self.eta * (surprise - self.tau)
        return place

    def _count(self, row: Candidates) -> int:
        """How many tokens to keep, by the exponent of Zipf's law for the likeliest ones: equations 25 and 30."""
        size = len(row)
        if size < 2:
            return size
        top = row.probabilities()[best(row.logits, min(size, MIROSTAT_TOKENS))].astype(np.float64)
        top = top[top > 0]
        ranks = np.arange(1, len(top))
        steps = np.log((ranks + 1) / ranks)
        exponent = float((steps * np.log(top[:-1] / top[1:])).sum() / np.square(steps).sum()) if len(top) > 1 else 0.0
        beyond = exponent - 1
        if exponent <= 0 or beyond == 0:
            return size
        try:
            count = ((beyond * 2**self.mu) / (1 - self.size**-beyond)) ** (1 / exponent)
        except OverflowError:
            return size
        return max(1, min(size, int(count)))


@dataclass(slots=True)
class Adaptive:
    """Aims at tokens of a certain probability: llama.cpp's `llama_sampler_adaptive_p_apply` (pull request 17927).

    target: 0 to 1. decay: how slowly earlier tokens are forgotten, 0 to 0.99.
    """

    target: float
    decay: float
    seen: float = field(init=False)
    weight: float = field(init=False)

    def __post_init__(self) -> None:
        self.seen = self.target / (1 - self.decay)
        self.weight = 1 / (1 - self.decay)

    def choose(self, row: Candidates, uniform: float) -> int:
        """Reshape around the target as it must be for the average to meet it, choose, and remember the choice."""
        chances = row.probabilities()
        aim = min(1.0, max(0.0, 2 * self.target - self.seen / self.weight))
        off = np.abs(chances - aim) / WIDTH
        bent = (PEAK - SHARPNESS * off * off / (1 + off)).astype(np.float32)
        bent[np.isneginf(row.logits)] = -np.inf
        row.replace(bent, ordered=False)
        place = by_chance(row, uniform)
        self.seen = float(chances[place]) + self.decay * self.seen
        self.weight = 1 + self.decay * self.weight
        return place
