"""Guessing ahead: tokens that a model would probably choose, computed for less than the model computes.

Whatever is guessed, the answer is what it would have been: a guess counts only where the model chooses it too.
"""

from __future__ import annotations

from typing import Protocol


class Guesser(Protocol):
    """Guesses how a text goes on."""

    def guess(self, tokens: list[int], room: int) -> list[int]:
        """The next tokens, `room` at most; none where there is nothing to go by."""
        ...

    def learn(self, guessed: int, right: int) -> None:
        """How many of the last guess were right."""
        ...


class Lookup:
    """Guesses that a text goes on as it did where its last tokens stood before.

    size: tokens that must be the same. most: tokens taken over.
    """

    def __init__(self, size: int, most: int) -> None:
        self._size, self._most = size, most

    def guess(self, tokens: list[int], room: int) -> list[int]:
        """What stood behind the latest place with the same last tokens: `size` of them, or as few as 2."""
        most = min(self._most, room)
        for size in range(min(self._size, len(tokens) - 1), 1, -1):
            end = tokens[-size:]
            for start in range(len(tokens) - size - 1, -1, -1):
                if tokens[start] == end[0] and tokens[start : start + size] == end:
                    return tokens[start + size : start + size + most]
        return []

    def learn(self, guessed: int, right: int) -> None:
        """It goes by the text alone."""
