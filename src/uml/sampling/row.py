"""Candidates: the tokens that may still be chosen, with their logits, and the arithmetic that all samplers share.

A row of a large vocabulary is 0.6 MB, so what counts is how often it is read, and that nothing sorts it. Where a long
row is taken in parts, a part is every so-manyth element: the processor does these side by side, and sixteen times as
fast as parts that lie together.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ids = NDArray[np.integer[Any]]

PART: Final = 64
"""Elements in a part of a long row."""
SHORT: Final = 4096
"""Rows up to this length are reckoned with in double precision."""


class Candidates:
    """Tokens in the order of their ids, or sorted by their logits.

    logits: float32, one for each candidate; never the engine's own memory once anything has changed.
    ids: of the candidates; None while every token of the vocabulary is one, in order.
    ordered: logits descend, and among equal ones ids ascend.
    """

    __slots__ = ("_ascending", "_log_total", "_own", "_probabilities", "ids", "logits", "ordered")

    def __init__(self, logits: Floats) -> None:
        self.logits = logits
        self.ids: Ids | None = None
        self.ordered = False
        self._ascending = True
        self._own = False
        self._probabilities: Floats | None = None
        self._log_total = 0.0

    def __len__(self) -> int:
        return len(self.logits)

    def token(self, place: int) -> int:
        """The id of the candidate at this place."""
        return place if self.ids is None else int(self.ids[place])

    def places(self, tokens: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """Where these tokens are among the candidates, and which of them are there at all."""
        if self.ids is None:
            there = tokens < len(self)  # prompts may hold ids of images, which no text token has
            return tokens[there], there
        if self._ascending:
            found = np.minimum(np.searchsorted(self.ids, tokens), len(self) - 1)
        else:
            order = np.argsort(self.ids)
            found = order[np.minimum(np.searchsorted(self.ids, tokens, sorter=order), len(self) - 1)]
        there = self.ids[found] == tokens
        return found[there], there

    def change(self) -> Floats:
        """The logits to write to: a copy of ours. What was known about them is forgotten."""
        if not self._own:
            self.logits = self.logits.copy()
            self._own = True
        self.ordered, self._probabilities = False, None
        return self.logits

    def replace(self, logits: Floats, *, ordered: bool) -> None:
        """Take other logits for the same candidates."""
        self.logits, self._own, self._probabilities, self.ordered = logits, True, None, ordered

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Keep those that the mask names, in the order that they have."""
        self._take(np.flatnonzero(mask))

    def allow(self, mask: NDArray[np.bool_]) -> None:
        """Keep those that the mask names, or, where they are many of a long row, ban all others."""
        if len(self) <= SHORT or np.count_nonzero(mask) * 10 < len(self):
            self.keep(mask)
        else:
            # Choosing by a mask without a pattern takes ten times as long as reckoning with its bits.
            there = masked(self.logits, mask).view(np.int32)
            there |= (mask.astype(np.int32) - 1) & _BANNED
            self.replace(there.view(np.float32), ordered=self.ordered)

    def keep_best(self, count: int) -> None:
        """Keep so many of the highest logits, sorted; among equal ones the lowest ids."""
        if not self.ordered:
            self._take(best(self.logits, count))
            self.ordered, self._ascending = True, False
        elif count < len(self):
            self._take(slice(0, count))

    def _take(self, places: Ids | slice) -> None:
        if self.ids is not None:
            self.ids = self.ids[places]
        else:
            self.ids = places if isinstance(places, np.ndarray) else np.arange(len(self))[places]
        self.logits = self.logits[places]
        self._own, self._probabilities = True, None

    def probabilities(self) -> Floats:
        """The softmax of the logits, in double precision while there are few candidates."""
        if self._probabilities is None:
            powers, most = _powers(self.logits)
            total = powers.sum()
            powers /= total
            self._probabilities, self._log_total = powers, most + math.log(total)
        return self._probabilities

    def surprises(self) -> Floats:
        """The negative natural logarithms of the probabilities; infinite for what is banned."""
        self.probabilities()
        return self._log_total - self.logits

    def entropy(self) -> float:
        """Of the probabilities, in nats."""
        # What is banned adds nothing; 0 x infinity would.
        finite = np.maximum(self.logits, np.float32(-1e30))
        mean = float(np.einsum("i,i->", self.probabilities(), finite))
        return self._log_total - mean


_BANNED: Final = np.float32(-np.inf).view(np.int32)
"""The bits of minus infinity."""


def masked(values: Floats, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Single-precision values, 0 for those that the mask does not name."""
    return (values.view(np.int32) & -mask.astype(np.int32)).view(np.float32)


def best(values: Floats, count: int) -> Ids:
    """Places of the highest values, best first; among equal ones the lowest place first.

    Of a long row, only what reaches the count-th largest of all parts' largest can be among them: that many parts
    have an element as large.
    """
    size = len(values)
    if count >= size:
        return np.argsort(-values, kind="stable")
    parts = size // PART
    if parts > 2 * count:
        tops = values[: parts * PART].reshape(PART, parts).max(axis=0)
        least = np.partition(tops, parts - count)[parts - count]
    else:
        least = np.partition(values, size - count)[size - count]
    near = np.flatnonzero(values >= least)
    return near[np.argsort(-values[near], kind="stable")[:count]]


def softmax(logits: Floats) -> Floats:
    """Probabilities that sum to one."""
    powers, _ = _powers(logits)
    powers /= powers.sum()
    return powers


def log_total(logits: Floats) -> float:
    """The natural logarithm of the sum of all exponentials, by which a logit becomes the logarithm of a probability."""
    powers, most = _powers(logits)
    return most + math.log(powers.sum())


def _powers(logits: Floats) -> tuple[Floats, float]:
    """The exponentials of what the logits are below the highest one, and that one."""
    most = logits.max()
    powers = logits.astype(np.float64) - most if len(logits) <= SHORT else logits - most
    return np.exp(powers, out=powers), float(most)


def drawn(weights: Floats, uniform: float) -> int:
    """The place that a number from [0, 1) falls on, where every place has a share like its weight."""
    size = len(weights)
    if size <= SHORT:
        return _within(weights, uniform * float(weights.sum(dtype=np.float64)))
    parts = size // PART
    body = weights[: parts * PART].reshape(PART, parts)
    sums = np.append(body.sum(axis=0), weights[parts * PART :].sum()).astype(np.float64)
    totals = np.cumsum(sums)
    point = uniform * float(totals[-1])
    part = min(int(np.searchsorted(totals, point, side="right")), int(np.flatnonzero(sums)[-1]))
    before = float(totals[part - 1]) if part else 0.0
    if part == parts:
        return parts * PART + _within(weights[parts * PART :], point - before)
    return part + parts * _within(body[:, part], point - before)


def _within(weights: Floats, point: float) -> int:
    totals = np.cumsum(weights, dtype=np.float64)
    place = int(np.searchsorted(totals, point, side="right"))
    # Rounding may put the point at the very end; a place without weight is never taken.
    return place if place < len(weights) and weights[place] > 0 else int(np.flatnonzero(weights)[-1])
