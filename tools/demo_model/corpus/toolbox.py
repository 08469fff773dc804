"""Tools that a model may be given: what they are called, what they take, how they are asked for, what they answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.inventing import like

Value = Callable[[Draw], str | int]

NAMELESS: Final = 0.05
"""Share of tools whose name says nothing, so that only the description tells what they do."""


@dataclass(frozen=True, slots=True)
class Param:
    """One argument. slot: its name in `Tool.asks`; names: what definitions call it; missing: what to ask back."""

    slot: str
    names: tuple[str, ...]
    about: str
    value: Value
    missing: str
    type: Literal["string", "integer"] = "string"


@dataclass(frozen=True, slots=True)
class Tool:
    """A kind of tool.

    names: what definitions call it. asks: requests with a place for each param. unclear: requests that lack all of
    them. result: fields that it answers, beside what it was given.
    answer: the sentence that follows from params and result.
    """

    names: tuple[str, ...]
    about: str
    params: tuple[Param, ...]
    asks: tuple[str, ...]
    unclear: tuple[str, ...]
    result: Mapping[str, Value]
    answer: str


def of(words: tuple[str, ...]) -> Value:
    """A word of this split's part of the list."""
    return lambda draw: draw.word(words)


def number(low: int, high: int) -> Value:
    """A whole number, both ends included."""
    return lambda draw: draw.between(low, high)


def names(verbs: str, nouns: str) -> tuple[str, ...]:
    """What a tool may be called, of words with spaces between: `find_flight`, `findFlight`, `flight`, of each pair."""
    found: list[str] = []
    for noun in nouns.split():
        for verb in verbs.split():
            whole = f"{verb}_{noun}"
            first, *rest = whole.split("_")
            found += [whole, first + "".join(part.capitalize() for part in rest)]
    return (*found, *nouns.split())


def among(*values: str) -> Value:
    """One of these, in both splits."""
    return lambda draw: draw.pick(values)


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool as one request defines it: its names chosen."""

    tool: Tool
    name: str
    params: Mapping[str, str]
    definition: Mapping[str, Any]

    def arguments(self, values: Mapping[str, str | int]) -> dict[str, str | int]:
        """Values by slot, under the names of this definition."""
        return {self.params[param.slot]: values[param.slot] for param in self.tool.params}


def offer(draw: Draw, tool: Tool, nameless: float = 0.0, *, all_names: bool = False) -> Offered:
    """Define a tool: a name of this split's, names of params, with or without descriptions and `required`.

    nameless: share of names, beyond `NAMELESS`, that say nothing. all_names: of both splits.
    """
    name = draw.pick(tool.names) if all_names else draw.word(tool.names, invented=NAMELESS)
    if nameless and draw.chance(nameless):
        name = like(draw.pick(tool.names), draw.random)
    names: dict[str, str] = {}
    for param in tool.params:
        names[param.slot] = draw.pick([name for name in param.names if name not in names.values()])
    described = draw.chance(0.3)
    properties = {
        names[param.slot]: {"type": param.type} | ({"description": param.about} if described else {})
        for param in tool.params
    }
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if draw.chance(0.7):
        parameters["required"] = list(properties)
    about = tool.about + draw.pick(("", ".", "", "."))
    function = {"name": name, "description": about, "parameters": parameters}
    return Offered(tool, name, names, {"type": "function", "function": function})
