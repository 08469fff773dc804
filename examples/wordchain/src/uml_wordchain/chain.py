"""The model: which word follows which two, with how often it does."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator

WORD = re.compile(r"\s*\S+")


def words(text: str) -> list[str]:
    """Words with the blanks before them, so that they can be put together again."""
    return WORD.findall(text)


class Chain:
    """Learnt from one text. Words are tokens, numbered as they are first seen."""

    def __init__(self, text: str) -> None:
        found = words(text)
        self.pieces = list(dict.fromkeys(found))
        self.ids = {piece: index for index, piece in enumerate(self.pieces)}
        self._after: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        bare = [word.strip() for word in found]
        for place, word in enumerate(found):
            for length in (0, 1, 2):
                self._after[tuple(bare[max(0, place - length) : place])][word] += 1

    def go_on(self, prompt: str, temperature: float, seed: int | None) -> Iterator[str]:
        """Words that follow, without end. temperature: 0 for always the likeliest; seed: None for another one."""
        chance = random.Random(seed)  # noqa: S311 - no secret hangs on it
        before = [word.strip() for word in words(prompt)]
        while True:
            follows = next(self._after[key] for length in (2, 1, 0) if (key := _last(before, length)) in self._after)
            if temperature == 0:
                word = max(follows, key=lambda one: (follows[one], one))
            else:
                weights = [count ** (1 / temperature) for count in follows.values()]
                word = chance.choices(list(follows), weights)[0]
            before.append(word.strip())
            yield word


def _last(before: list[str], length: int) -> tuple[str, ...]:
    return tuple(before[-length:]) if length else ()
