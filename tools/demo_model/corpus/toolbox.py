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
VERBS: Final[Mapping[str, tuple[str, ...]]] = {
    "Get": ("Fetch", "Look up", "Show", "Tell", "Returns", "Retrieve"),
    "Find": ("Search for", "Look for", "Find out", "Finds"),
    "Search": ("Look through", "Find in", "Searches"),
    "Set": ("Change", "Adjust", "Start", "Sets"),
    "Play": ("Start", "Put on", "Plays"),
    "Send": ("Write", "Deliver", "Sends"),
}
"""Verbs that descriptions begin with, and others that mean as much."""


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

    @property
    def verbs(self) -> tuple[str, ...]:
        """What its names in snake case begin with, each once: `get_`, `fetch_`."""
        return tuple(dict.fromkeys(f"{name.partition('_')[0]}_" for name in self.names if "_" in name))

    def takes_as(self, other: Tool) -> bool:
        """Whether what it is asked about may be what the other one is asked about."""
        return self is not other and bool({p.slot for p in self.params} & {p.slot for p in other.params})


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


def reworded(draw: Draw, about: str) -> str:
    """A description in other words: as other people describe such a tool."""
    verb, _, rest = about.partition(" ")
    verb = draw.pick((verb, *VERBS.get(verb, (f"{verb}s",))))
    article, _, thing = rest.partition(" ")
    if article in ("a", "an"):
        rest = f"{draw.pick((article, article, 'the', 'some', 'the right', 'my'))} {thing}"
    elif article == "the":
        rest = f"{draw.pick(('the', 'the', 'the current', 'the exact'))} {thing}"
    rest = rest.replace(" a city", draw.pick((" a city", " the city", " one city", " a given city", " some place")))
    return f"{verb} {rest}" + (draw.pick((" for the user", " now", " by name", " with this tool")) * draw.chance(0.2))


def offer(
    draw: Draw, tool: Tool, nameless: float = 0.0, *, all_names: bool = False, reword: float = 0.0, verb: str = ""
) -> Offered:
    """Define a tool: a name of this split's, names of params, with or without descriptions and `required`.

    nameless: share of names, beyond `NAMELESS`, that say nothing. all_names: of both splits; then it begins with the
    verb, if one does. reword: share of descriptions in other words.
    """
    fitting = [name for name in tool.names if verb and name.startswith(verb)]
    name = draw.pick(fitting or tool.names) if all_names else draw.word(tool.names, invented=NAMELESS)
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
    about = reworded(draw, tool.about) if reword and draw.chance(reword) else tool.about
    function = {"name": name, "description": about + draw.pick(("", ".", "", ".")), "parameters": parameters}
    return Offered(tool, name, names, {"type": "function", "function": function})
