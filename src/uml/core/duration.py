"""How long something may stay, as people and Ollama write it: `300`, `"5m"`, `"1h30m"`, `0`, `-1`."""

from __future__ import annotations

import math
import re
from typing import Final

EXPECTED: Final = "seconds, a duration (`5m`, `1h30m`, `300ms`), 0: not at all, or below 0: for ever"

_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?|\.\d{1,9})(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_EVER_S: Final = 1e12
"""Thirty thousand years."""
_MAX_CHARACTERS: Final = 64


def duration_s(value: object) -> float:
    """Seconds, `math.inf` for what is below 0. Raises ValueError for what is no duration.

    The meanings are those of `keep_alive` in Ollama's API (docs/api.md there): a number is seconds, a
    text is a number with units in the manner of Go, and what is negative means for ever.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    try:
        number = _read(value.strip()) if isinstance(value, str) else float(value)
    except OverflowError:  # a whole number of more than 308 digits
        raise ValueError from None
    if math.isnan(number):
        raise ValueError
    return math.inf if number < 0 else number


def written(seconds: float) -> str:
    """A number of seconds as a text that means the same, to the nanosecond: `300`, `0.5`; `-1` is for ever."""
    number = duration_s(seconds)
    return f"{abs(number):.9f}".rstrip("0").rstrip(".") if number < _EVER_S else "-1"


def _read(text: str) -> float:
    if not text or len(text) > _MAX_CHARACTERS:
        raise ValueError
    sign, body = (-1, text[1:]) if text[0] == "-" else (1, text)
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", body, re.ASCII):
        return sign * float(body)
    parts = _PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError
    return sign * sum(float(number) * _UNITS_S[unit] for number, unit in parts)
