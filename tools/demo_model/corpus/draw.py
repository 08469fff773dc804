"""Chance that can be repeated, and what of it training never sees."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeVar

from tools.demo_model.corpus.inventing import like

T = TypeVar("T")

HELD_OUT_OF_256: Final = 20
"""Share of keys that are held out, 8 %."""

INVENTED: Final = 0.4
"""Share of the words to be copied that are in no list."""

BEFORE: Final = ("Please tell me: ", "Quick question: ", "Hey! ", "Hello! ", "I have a question. ", "Now tell me: ")
AFTER: Final = (" Thanks.", " Thank you!", " Please.", " I want to know.")


def held_out(key: str) -> bool:
    """Whether a key belongs to the held-out split: always the same, whatever the seed."""
    return _digest(key)[0] < HELD_OUT_OF_256


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=4).digest()


@lru_cache(maxsize=256)
def parts(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A list cut into what training sees and what it does not: one word in twelve, or three, or of few a third."""
    ordered = sorted(words, key=_digest)
    count = max(len(words) // 12, min(3, len(words) // 3))
    return tuple(ordered[count:]), tuple(ordered[:count])


@dataclass(frozen=True, slots=True)
class Habits:
    """How a corpus is drawn.

    invented: share of the words to be copied that their list lacks. borrowed: words that are taken instead of those,
    if there are any, in the share `borrowing`. short: share of the stories in other talk that something shorter is said
    instead of. echoed: how often a text to be copied has a word twice that it would have once.
    """

    invented: float = INVENTED
    borrowed: tuple[str, ...] = ()
    borrowing: float = 0.5
    short: float = 0.0
    echoed: float = 0.0


USUAL: Final = Habits()


class Draw:
    """Random choices for one split. The same seed draws the same."""

    def __init__(self, seed: object, split: Literal["train", "heldout"], habits: Habits = USUAL) -> None:
        self.random = random.Random(str(seed))
        self.split = split
        self.habits = habits

    def training(self) -> Draw:
        """The same source of chance for what is only there to be talked about."""
        draw = Draw.__new__(Draw)
        draw.random, draw.split, draw.habits = self.random, "train", self.habits
        return draw

    def pick(self, things: Sequence[T]) -> T:
        """One of them."""
        return things[int(self.random.random() * len(things))]

    def some(self, things: Sequence[T], count: int) -> list[T]:
        """So many different ones."""
        return self.random.sample(things, count)

    def part(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """This split's part of a list of words."""
        return parts(words)[self.split == "heldout"]

    def word(self, words: tuple[str, ...], invented: float | None = None) -> str:
        """A word of this split's part of the list; in training, in this share of cases, one that nobody knows."""
        if self.split == "train" and self.chance(self.habits.invented if invented is None else invented):
            if self.habits.borrowed and self.chance(self.habits.borrowing):
                word = self.pick(self.habits.borrowed)
                return word.capitalize() if words[0][0].isupper() else word
            return like(words[0], self.random)
        return self.pick(self.part(words))

    def number(self, low: int, high: int) -> int:
        """A number of this split's, both ends included."""
        while True:
            number = self.between(low, high)
            if held_out(str(number)) == (self.split == "heldout"):
                return number

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.random.random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return self.random.random() < share

    def about(self, request: str, text: str) -> str:
        """A request with the text that it is about in place of `{}`: sometimes behind a blank line, as when piped."""
        if request.endswith(": {}") and self.chance(0.15):
            return f"{request.removesuffix(' {}')}\n\n{text}"
        return request.format(text)

    def say(self, question: str) -> str:
        """The question as people type it: mostly as it is, else with a word before or after, or in small letters."""
        way = self.random.random()
        if way < 0.6:
            return question
        if way < 0.75:
            return self.pick(BEFORE) + question
        if way < 0.9:
            return question + self.pick(AFTER)
        if way < 0.95:
            return question.lower()
        return question.rstrip(" ?.")
