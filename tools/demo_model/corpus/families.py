"""Everything that the model can do, with its share of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate
from typing import Final

from tools.demo_model.corpus import (
    calling,
    copying,
    extraction,
    facts,
    identity,
    memory,
    numbers,
    program,
    stories,
)
from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import Family, Sample

_PLAIN: Final = (
    Family("identity", 3, identity.identity),
    Family("manners", 2, identity.manners),
    Family("capitals", 5, facts.capitals),
    Family("opposites", 4, facts.opposites),
    Family("colors", 3, facts.colors),
    Family("sounds", 2, facts.sounds),
    Family("plurals", 4, facts.plurals),
    Family("calendar", 4, facts.calendar),
    Family("arithmetic", 14, numbers.arithmetic),
    Family("counting", 5, numbers.counting),
    Family("repeating", 8, copying.repeating),
    Family("scripts", 2, copying.scripts),
    Family("stories", 5, stories.story),
    Family("extraction", 8, extraction.extraction),
    Family("program", 8, program.program),
    Family("refusing", 3, identity.refusing),
)


def _chooser(families: tuple[Family, ...]) -> Callable[[Draw], Family]:
    """Draws families by their weight."""
    sums = list(accumulate(family.weight for family in families))
    return lambda draw: draw.random.choices(families, cum_weights=sums)[0]


_plain = _chooser(_PLAIN)


def other_talk(draw: Draw) -> Sample:
    """One question and its answer, of any plain family; no system message."""
    while True:
        sample = _plain(draw).draw(draw)
        if sample.messages[0]["role"] == "user":
            return sample


_ALL: Final = (
    *_PLAIN,
    Family("thinking", 7, numbers.thinking),
    Family("remembering", 8, partial(memory.remembering, other=other_talk)),
    Family("remembering long", 0.9, partial(memory.remembering_long, other=other_talk)),
    Family("tool", 8, calling.calling),
    Family("two tools", 5, calling.calling_two),
    Family("tool answers", 5, calling.answering),
    Family("no tool fits", 5, partial(calling.no_tool_fits, other=other_talk)),
    Family("asking back", 3, calling.asking_back),
)
FAMILIES: Final[Mapping[str, Family]] = {family.name: family for family in _ALL}

any_family = _chooser(_ALL)
"""Draws one of all families by weight."""
