"""Words that nobody knows, of syllables that can be spoken.

Values that are only to be said again (names, places, titles) are invented as often as taken from a list: a model that
has seen a hundred names learns a hundred names, and one that has seen a hundred thousand learns to copy.
"""

from __future__ import annotations

from random import Random
from typing import Final

from tools.demo_model.corpus import words

ONSETS: Final[tuple[str, ...]] = (
    *"bdfghjklmnprstvwz",
    *("br", "dr", "fl", "gr", "kl", "pr", "sk", "st", "tr", "ch", "sh", "th"),
)
VOWELS: Final[tuple[str, ...]] = (*"aeiou", *"aeiou", "ai", "ea", "oo")
CODAS: Final = ("", "", "", "n", "r", "l", "s", "k", "m", "t", "x", "nd", "rk")

_KNOWN: Final = frozenset(
    word.lower() for known in vars(words).values() if isinstance(known, tuple) for word in known if " " not in word
)
"""What would not be invented, and some of which training must not see."""


def invented(random: Random, most: int = 3) -> str:
    """A word of two to `most` syllables in small letters that is in no list."""
    while True:
        count = 2 + int(random.random() * (most - 1))
        word = "".join(_of(random, ONSETS) + _of(random, VOWELS) for _ in range(count)) + _of(random, CODAS)
        if word not in _KNOWN:
            return word


def like(example: str, random: Random) -> str:
    """An invented word in the form of an example: `Great`, `small`, or `two_parts`."""
    if "_" in example:
        return f"{invented(random, 2)}_{invented(random, 2)}"
    word = invented(random)
    return word.capitalize() if example[0].isupper() else word


def _of(random: Random, parts: tuple[str, ...]) -> str:
    return parts[int(random.random() * len(parts))]
