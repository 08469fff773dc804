"""Words that nobody knows: of syllables that can be spoken, or of the halves of two words.

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

_LISTED: Final = tuple(
    sorted(
        {word.lower() for known in vars(words).values() if isinstance(known, tuple) for word in known if word.isalpha()}
    )
)
_KNOWN: Final = frozenset(_LISTED)
"""What would not be invented, and some of which training must not see."""


def invented(random: Random, most: int = 3) -> str:
    """A word in small letters that is in no list: of two to `most` syllables, or, as often, of two halves.

    Halves of listed words are made of the tokens that such words are made of, those of held-out words too.
    """
    while True:
        word = _of_halves(random) if random.random() < 0.5 else _of_syllables(random, most)
        if word not in _KNOWN:
            return word


def _of_syllables(random: Random, most: int) -> str:
    count = 2 + int(random.random() * (most - 1))
    return "".join(_of(random, ONSETS) + _of(random, VOWELS) for _ in range(count)) + _of(random, CODAS)


def _of_halves(random: Random) -> str:
    first, second = _of(random, _LISTED), _of(random, _LISTED)
    return first[: 1 + len(first) // 2] + second[len(second) // 2 :]


def like(example: str, random: Random) -> str:
    """An invented word in the form of an example: `Great`, `small`, `two_parts` or `twoParts`."""
    if "_" in example:
        return f"{invented(random, 2)}_{invented(random, 2)}"
    if example[1:] != example[1:].lower():
        return invented(random, 2) + invented(random, 2).capitalize()
    word = invented(random)
    return word.capitalize() if example[0].isupper() else word


def _of(random: Random, parts: tuple[str, ...]) -> str:
    return parts[int(random.random() * len(parts))]
