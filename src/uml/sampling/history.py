"""The tokens of one answer and its prompt, and how often each was there lately."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


class History:
    """Prompt and answer as one row that grows at its end.

    prompt: how many of the tokens are the prompt's.
    drops: how often tokens were taken back; who remembers something of each token looks anew when it has changed.
    """

    __slots__ = ("_row", "_size", "drops", "prompt")

    def __init__(self, prompt: Sequence[int]) -> None:
        self.prompt, self.drops = len(prompt), 0
        self._size = len(prompt)
        self._row = np.empty(len(prompt) + 512, np.int64)
        self._row[: self._size] = prompt

    def __len__(self) -> int:
        return self._size

    @property
    def written(self) -> int:
        """Tokens of the answer."""
        return self._size - self.prompt

    def add(self, token: int) -> None:
        """One more token of the answer."""
        if self._size == len(self._row):
            self._row = np.concatenate([self._row, np.empty(len(self._row), np.int64)])
        self._row[self._size] = token
        self._size += 1

    def drop(self, count: int) -> None:
        """Take the last tokens of the answer back."""
        self._size -= min(count, self.written)
        self.drops += 1

    def last(self, count: int) -> Tokens:
        """The last tokens, oldest first; all of them where count is below 0."""
        return self._row[: self._size] if count < 0 else self._row[max(0, self._size - count) : self._size]

    @property
    def answer(self) -> Tokens:
        """The tokens of the answer."""
        return self._row[self.prompt : self._size]


class Counts:
    """How often each token is among the last so many of a history; kept up to date token by token.

    window: how many; below 0 for all.
    """

    __slots__ = ("_drops", "_history", "_now", "_numbers", "_places", "_seen", "_tokens", "window")

    def __init__(self, history: History, window: int) -> None:
        self._history, self.window = history, window
        self._drops = -1  # nothing is counted before it is asked for

    def _count_anew(self) -> None:
        tokens, numbers = np.unique(self._history.last(self.window), return_counts=True)
        self._tokens, self._numbers = tokens, numbers
        self._now = tokens, numbers
        self._places = {token: place for place, token in enumerate(tokens.tolist())}
        self._seen, self._drops = len(self._history), self._history.drops

    def now(self) -> tuple[Tokens, NDArray[np.int64]]:
        """Tokens of the window, each once, and how often they are in it."""
        if self._drops != self._history.drops:
            self._count_anew()
        elif behind := len(self._history) - self._seen:
            for token in self._history.last(behind).tolist():
                self._move(token)
            there = self._numbers > 0
            self._now = self._tokens[there], self._numbers[there]
        return self._now

    def _move(self, token: int) -> None:
        """One token enters the window, and where it is full another one leaves."""
        place = self._places.get(token)
        if place is None:
            place = self._places[token] = len(self._tokens)
            self._tokens = np.append(self._tokens, token)
            self._numbers = np.append(self._numbers, 0)
        self._numbers[place] += 1
        self._seen += 1
        if 0 <= self.window < self._seen:
            left = int(self._history.last(-1)[self._seen - 1 - self.window])
            self._numbers[self._places[left]] -= 1
