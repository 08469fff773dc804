"""Packs documents into windows, whole: short ones into many short windows, long ones into few long ones.

Every batch has the same number of tokens. How often a long one comes is a share of all tokens,
and grows in the first part of the training: what a model of long contexts needs first is language.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

from tools.demo_model.documents import Spans
from tools.demo_model.tokenizer import PAD_ID, text_of

SHARES = {2048: 0.12, 1024: 0.15, 512: 0.40, 256: 1.0}
"""Most of all tokens that windows of a length may take. Longest first: the shortest come when no other may."""
LENGTHS = tuple(SHARES)
LONG = 512
GROWING = (0.05, 0.30)
"""Progress at which windows over `LONG` begin to come, and at which they have their share."""

ENCODED_TOGETHER = 256
FULL_ENOUGH = 1.5
"""Batches' worth of documents to choose from: enough to fill windows to about 98 %."""
KEPT_AT_MOST = 3.0
"""Batches' worth of documents kept until their length's turn comes; more are let go."""


class Document(NamedTuple):
    """A document as numbers: token ids (uint16), and the loss weight of each."""

    ids: NDArray[np.uint16]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of one length; every array is (rows, length)."""

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    """The token that comes next in the same document."""
    weights: NDArray[np.float32]
    """How much a target counts; 0 where a document ends and in the padding."""
    documents: NDArray[np.int64]
    """Which document a token belongs to, counted within its row; the padding has one of its own."""


def encode(tokenizer: Tokenizer, several: list[Spans]) -> list[Document]:
    """Whole texts to tokens, so that merges see what an engine's see; a token has its first letter's weight."""
    encodings = tokenizer.encode_batch([text_of(spans) for spans in several], add_special_tokens=False)
    found = []
    for spans, encoding in zip(several, encodings, strict=True):
        by_letter = np.repeat(
            np.array([span.weight for span in spans], np.float32), np.array([len(span.text) for span in spans])
        )
        starts = np.array([start for start, _ in encoding.offsets], np.int64)
        found.append(Document(np.array(encoding.ids, np.uint16), by_letter[starts]))
    return found


def encoded(tokenizer: Tokenizer, source: Iterator[Spans]) -> Iterator[Document]:
    """Every document of a source, encoded some at a time."""
    while True:
        several = list(itertools.islice(source, ENCODED_TOGETHER))
        if not several:
            return
        yield from encode(tokenizer, several)


def pack(waiting: list[Document], length: int, rows: int) -> tuple[Batch, list[Document]]:
    """One batch, longest documents first and each into the first window with room; and who found none."""
    space = [length] * rows
    windows: list[list[Document]] = [[] for _ in range(rows)]
    left = []
    for document in sorted(waiting, key=lambda document: -len(document.ids)):
        row = next((row for row in range(rows) if space[row] >= len(document.ids)), None)
        if row is None:
            left.append(document)
        else:
            windows[row].append(document)
            space[row] -= len(document.ids)
    return _batch(windows, length), left


def _batch(windows: list[list[Document]], length: int) -> Batch:
    rows = len(windows)
    tokens = np.full((rows, length), PAD_ID, np.int64)
    targets = np.full((rows, length), PAD_ID, np.int64)
    weights = np.zeros((rows, length), np.float32)
    documents = np.full((rows, length), -1, np.int64)
    for row, window in enumerate(windows):
        start = 0
        for number, document in enumerate(window):
            end = start + len(document.ids)
            tokens[row, start:end] = document.ids
            targets[row, start : end - 1] = document.ids[1:]
            weights[row, start : end - 1] = document.weights[1:]
            documents[row, start:end] = number
            start = end
    return Batch(tokens, targets, weights, documents)


@dataclass(slots=True)
class Packer:
    """Reads documents and gives batches of `batch_tokens`; owns what waits for its turn."""

    documents: Iterator[Document]
    batch_tokens: int
    read: int = 0
    """Documents taken from the source."""
    given: dict[int, int] = field(default_factory=lambda: dict.fromkeys(LENGTHS, 0))
    """Batches given so far, by window length."""
    waiting: dict[int, list[Document]] = field(default_factory=lambda: {length: [] for length in LENGTHS})

    def next(self, progress: float) -> Batch:
        """The next batch at `progress` (0 to 1) of the training."""
        while True:
            for length in LENGTHS:
                if self._is_due(length, progress) and self._waiting_tokens(length) >= FULL_ENOUGH * self.batch_tokens:
                    return self._pack(length)
            self._take()

    def _is_due(self, length: int, progress: float) -> bool:
        begin, end = GROWING
        grown = 1.0 if length <= LONG else min(1.0, max(0.0, (progress - begin) / (end - begin)))
        return self.given[length] < SHARES[length] * grown * (sum(self.given.values()) + 1)

    def _waiting_tokens(self, length: int) -> int:
        return sum(len(document.ids) for document in self.waiting[length])

    def _take(self) -> None:
        document = next(self.documents)
        self.read += 1
        if len(document.ids) <= LENGTHS[0]:
            pool = self._pool(document)
            if self._waiting_tokens(pool) < KEPT_AT_MOST * self.batch_tokens:
                self.waiting[pool].append(document)

    def _pool(self, document: Document) -> int:
        """The shortest window that holds it."""
        return min(length for length in LENGTHS if len(document.ids) <= length)

    def _pack(self, length: int) -> Batch:
        # Shorter ones fill what the long ones leave.
        fitting = [document for pool in LENGTHS if pool <= length for document in self.waiting[pool]]
        batch, left = pack(fitting, length, self.batch_tokens // length)
        for pool in LENGTHS:
            if pool <= length:
                self.waiting[pool] = [document for document in left if self._pool(document) == pool]
        self.given[length] += 1
        return batch
