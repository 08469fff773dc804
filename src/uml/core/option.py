"""What a load option takes, and the check of a value before any engine sees it: some values kill its process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from uml.core.duration import duration_s, written
from uml.core.errors import BadOption
from uml.core.kinds import WORDS, expected

_WORDS: Final[Mapping[str, str]] = {**WORDS, "texts": "a list of texts", "numbers": "a list of numbers"}


@dataclass(frozen=True, slots=True)
class Option:
    """What one load option takes.

    kind: JSON type of the value; `texts` and `numbers` are arrays, a `duration` is a number or a text.
    low, high: inclusive bounds of a number, or of the length of an array.
    aliases: the names by which other systems call it, accepted and never shown.
    memory: whether it changes how much memory the model takes.
    ours: no engine sees it: it says how the model is kept. Another value needs no other load.
    """

    name: str
    kind: Literal["integer", "number", "boolean", "text", "texts", "numbers", "duration"]
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    memory: bool = False
    ours: bool = False

    @property
    def expected(self) -> str:
        """The range in words, for errors and documentation."""
        many = self.kind in ("texts", "numbers")
        return expected(_WORDS[self.kind], self.choices, self.low, self.high, many=many)

    def check(self, value: object) -> Any:
        """The value as its Python type, or BadOption. Lists become tuples.

        What can mean one thing only is taken: a choice in capitals, and true and false for on and off.
        """
        checked = _KINDS[self.kind](value)
        if self.choices and isinstance(value, bool | str):
            word = value.lower() if isinstance(value, str) else {True: "on", False: "off"}[value]
            checked = word if word in self.choices else checked
        if checked is None or (self.choices and checked not in self.choices):
            raise BadOption(self.name, value, self.expected)
        measure = len(checked) if isinstance(checked, tuple) else checked
        if self.low is not None and self.high is not None and not self.low <= measure <= self.high:
            raise BadOption(self.name, value, self.expected)
        return checked


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        return None  # nan is not between them either
    return float(value)


def _boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and "\0" not in value else None


def _texts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list | tuple) or any(_text(item) is None for item in value):
        return None
    return tuple(value)


def _numbers(value: object) -> tuple[float, ...] | None:
    if not isinstance(value, list | tuple) or any(_number(item) is None for item in value):
        return None
    return tuple(float(item) for item in value)


def _duration(value: Any) -> str | None:
    """A text as it was written, so that it is shown so; empty leaves it to the settings."""
    if value == "":
        return ""
    try:
        duration_s(value)
    except ValueError:
        return None
    return value.strip() if isinstance(value, str) else written(value)


_KINDS: Final[Mapping[str, Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "text": _text,
    "texts": _texts,
    "numbers": _numbers,
    "duration": _duration,
}
