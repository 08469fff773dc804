"""Candidates: the tokens that may still be chosen, with their logits, and the arithmetic that all samplers share.

A row of a large vocabulary is 0.6 MB, so what counts is how often it is read: nothing here sorts a whole row. The
tokens of the highest logits are found by the largest of each block (`best`), which is exact.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ids = NDArray[np.integer[Any]]

BLOCK: Final = 64


class Candidates:
    """Tokens in no order but that of their ids, or sorted by their logits.

    logits: float32, one for each candidate; never the engine's own memory once anything has changed.
    ids: of the candidates, ascending unless `ordered`; None while every token of the vocabulary is one, in order.
    ordered: logits descend, and among equal ones ids ascend.
    """

    __slots__ = ("_own", "_probabilities", "ids", "logits", "ordered")

    def __init__(self, logits: Floats) -> None:
        self.logits = logits
        self.ids: Ids | None = None
        self.ordered = False
        self._own = False
        self._probabilities: Floats | None = None

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
        order = np.argsort(self.ids, kind="stable")
        at = np.searchsorted(self.ids, tokens, sorter=order)
        found = order[np.minimum(at, len(order) - 1)]
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

    def take(self, places: Ids | slice | NDArray[np.bool_], *, ordered: bool) -> None:
        """Keep the candidates at these places only, in this order."""
        self.ids = np.arange(len(self))[places] if self.ids is None else self.ids[places]
        self.logits = self.logits[places]
        self._own, self.ordered, self._probabilities = True, ordered, None

    def keep_best(self, count: int) -> None:
        """Keep so many of the highest logits, sorted; among equal ones the lowest ids."""
        if self.ordered:
            if count < len(self):
                self.take(slice(0, count), ordered=True)
            return
        self.take(best(self.logits, count), ordered=True)

    def sort(self) -> None:
        """Bring all candidates into order."""
        if not self.ordered:
            self.keep_best(len(self))

    def probabilities(self) -> Floats:
        """The softmax of the logits, in double precision while there are few candidates."""
        if self._probabilities is None:
            self._probabilities = softmax(self.logits)
        return self._probabilities


def best(logits: Floats, count: int) -> Ids:
    """Places of the highest logits, best first; among equal ones the lowest place first.

    Of a long row, only what reaches the count-th largest of all blocks' largest can be among them: that many blocks
    have an element as large.
    """
    size = len(logits)
    if count >= size:
        return np.argsort(-logits, kind="stable")
    blocks = size // BLOCK
    if blocks > 2 * count:
        tops = logits[: blocks * BLOCK].reshape(blocks, BLOCK).max(axis=1)
        least = np.partition(tops, blocks - count)[blocks - count]
        near = np.flatnonzero(logits >= least)
    else:
        least = np.partition(logits, size - count)[size - count]
        near = np.flatnonzero(logits >= least)
    return near[np.argsort(-logits[near], kind="stable")[:count]]


def softmax(logits: Floats) -> Floats:
    """Probabilities that sum to one; double precision for fewer than 4,096."""
    few = len(logits) < 4096
    shifted = logits.astype(np.float64) if few else logits
    powers = np.exp(shifted - shifted.max())
    chances: Floats = powers / powers.sum()
    return chances


def log_total(logits: Floats) -> float:
    """The natural logarithm of the sum of all exponentials, by which a logit becomes the logarithm of a probability."""
    most = logits.max()
    return float(most) + float(np.log(np.exp(logits - most).sum(dtype=np.float64)))


def drawn(weights: Floats, uniform: float) -> int:
    """The place that a number from [0, 1) falls on, where every place has a share like its weight."""
    size = len(weights)
    if size <= 4 * BLOCK:
        return _within(weights, uniform * float(weights.sum(dtype=np.float64)))
    # A long row is added up in blocks: one pass that the processor does well, and two short sums.
    blocks = size // BLOCK
    sums = weights[: blocks * BLOCK].reshape(blocks, BLOCK).sum(axis=1, dtype=np.float64)
    if size % BLOCK:
        sums = np.append(sums, weights[blocks * BLOCK :].sum(dtype=np.float64))
    totals = np.cumsum(sums)
    point = uniform * float(totals[-1])
    block = min(int(np.searchsorted(totals, point, side="right")), int(np.flatnonzero(sums)[-1]))
    before = float(totals[block - 1]) if block else 0.0
    return block * BLOCK + _within(weights[block * BLOCK : (block + 1) * BLOCK], point - before)


def _within(weights: Floats, point: float) -> int:
    totals = np.cumsum(weights, dtype=np.float64)
    place = int(np.searchsorted(totals, point, side="right"))
    # Rounding may put the point at the very end; a place without weight is never taken.
    return place if place < len(weights) and weights[place] > 0 else int(np.flatnonzero(weights)[-1])
