"""What values of JSON are called in errors and documentation, of load options and of requests' parameters alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from uml.core.duration import EXPECTED as DURATION

WORDS: Final[Mapping[str, str]] = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "text": "a text",
    "duration": DURATION,
}
"""Kind -> what is expected; kinds that mean different things to both are told where they are declared."""


def expected(
    words: str, choices: Sequence[str] = (), low: float | None = None, high: float | None = None, *, many: bool = False
) -> str:
    """What a value must be, in words: one of its choices, or its kind with its bounds.

    low, high: inclusive; None for no bounds. many: it is an array, and they are of its length.
    """
    if choices:
        return "one of " + ", ".join(choices)
    if low is None or high is None:
        return words
    bounds = f"{low:.15g} to {high:.15g}"
    return f"{words}, {bounds} of them" if many else f"{words} from {bounds}"
