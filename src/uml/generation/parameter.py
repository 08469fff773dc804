"""What a parameter of a request takes, and the check of a value of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from uml.core.duration import duration_s
from uml.core.kinds import WORDS, expected

Endpoint = Literal["chat", "completion", "embedding", "rerank", "classify"]
Kind = Literal["integer", "number", "boolean", "text", "texts", "object", "array", "prompt", "duration", "any"]

_WORDS: Final[Mapping[str, str]] = {
    **WORDS,
    "texts": "a text or a list of texts",
    "object": "an object",
    "array": "a list",
    "prompt": "a text, a list of texts or a list of token ids",
    "any": "a value",
}


@dataclass(frozen=True)
class Parameter:
    """What one parameter takes.

    kind: JSON type; `texts` is a text or an array of texts, `prompt` also takes token ids.
    low, high: inclusive bounds of a number, or of the length of `texts`.
    endpoints: where it may stand.
    ours: the gateway itself does what it says, and no engine sees it.
    inert: it changes nothing on a local server, and is accepted without a word.
    rare: only engines whose dialect names it have it; all others go to every engine unless its dialect says None.
    """

    name: str
    kind: Kind
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ("chat", "completion")
    inert: bool = False
    ours: bool = False
    rare: bool = False

    @cached_property
    def expected(self) -> str:
        """What it takes, in words."""
        return expected(_WORDS[self.kind], self.choices, self.low, self.high, many=self.kind == "texts")

    def accepts(self, value: Any) -> bool:
        """Whether a JSON value is of the right type and in the range; null never is."""
        kind = self.kind
        if kind == "number":
            return type(value) in (int, float) and math.isfinite(value) and self._bounded(value)
        if kind == "integer":
            # Some clients write whole numbers as 5.0.
            whole = type(value) is int or (type(value) is float and value.is_integer())
            return whole and self._bounded(value)
        if kind == "text":
            return type(value) is str and (not self.choices or value in self.choices)
        if kind == "boolean":
            return type(value) is bool
        if kind == "texts":
            if type(value) is str:
                return True
            return type(value) is list and all(type(item) is str for item in value) and self._bounded(len(value))
        if kind == "prompt":
            return _is_prompt(value)
        if kind == "duration":
            return _is_duration(value)
        return kind == "any" or type(value) is (dict if kind == "object" else list)

    def _bounded(self, value: float) -> bool:
        return self.low is None or self.high is None or self.low <= value <= self.high

    @property
    def schema(self) -> dict[str, Any]:
        """The parameter in JSON Schema, for the documentation."""
        shapes: dict[str, dict[str, Any]] = {
            "integer": {"type": "integer"},
            "number": {"type": "number"},
            "boolean": {"type": "boolean"},
            "text": {"type": "string"},
            "texts": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            "object": {"type": "object"},
            "array": {"type": "array", "items": {}},
            "prompt": {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]},
            "duration": {"type": ["number", "string"]},
            "any": {},
        }
        shape = shapes[self.kind]
        if self.choices:
            shape["enum"] = list(self.choices)
        elif self.kind in ("integer", "number") and self.low is not None:
            shape |= {"minimum": self.low, "maximum": self.high}
        also = f" Also called {', '.join(self.aliases)}." if self.aliases else ""
        return {**shape, "description": f"{self.help}.{also}"}


def _is_prompt(value: Any) -> bool:
    if type(value) is str:
        return True
    if type(value) is not list or not value:
        return False
    if any(type(item) is list for item in value):  # several prompts, each a text or token ids
        return all(type(item) is str or (type(item) is list and all(map(_is_token, item))) for item in value)
    return all(type(item) is str or _is_token(item) for item in value)


def _is_token(value: Any) -> bool:
    # Beyond 31 bits llama.cpp takes another token for it, without a word.
    return type(value) is int and 0 <= value < 1 << 31


def _is_duration(value: Any) -> bool:
    try:
        duration_s(value)
    except ValueError:
        return False
    return True
