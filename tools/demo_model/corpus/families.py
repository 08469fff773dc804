"""Everything that the model can do, with its share of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
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
    Family("capitals", 6, facts.capitals),
    Family("opposites", 4, facts.opposites),
    Family("colors", 3, facts.colors),
    Family("sounds", 2, facts.sounds),
    Family("plurals", 4, facts.plurals),
    Family("calendar", 4, facts.calendar),
    Family("arithmetic", 22, numbers.arithmetic),
    Family("counting", 6, numbers.counting),
    Family("repeating", 10, copying.repeating),
    Family("scripts", 3, copying.scripts),
    Family("stories", 6, stories.story),
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
    Family("thinking", 9, numbers.thinking),
    Family("remembering", 10, partial(memory.remembering, other=other_talk)),
    Family("remembering long", 1.5, partial(memory.remembering_long, other=other_talk)),
    Family("tool", 6, calling.calling),
    Family("two tools", 4, calling.calling_two),
    Family("tool answers", 2, calling.answering),
    Family("no tool fits", 3, partial(calling.no_tool_fits, other=other_talk)),
    Family("asking back", 2, calling.asking_back),
)
FAMILIES: Final[Mapping[str, Family]] = {family.name: family for family in _ALL}

any_family = _chooser(_ALL)
"""Draws one of all families by weight."""

_MIXED: Final = calling.Mix(missing=0.2, double=0.2)
_PRACTICE: Final = (
    *(
        replace(family, weight=family.weight / 2)
        for family in _PLAIN
        if family.name not in ("manners", "stories", "extraction")
    ),
    Family("manners", 3, identity.manners),
    Family("stories", 5, partial(stories.story, ways=(0.2, 0.35, 0.55, 0.85))),
    Family("extraction", 6, extraction.extraction),
    Family("scripts", 2, copying.scripts),
    Family("thinking", 5, numbers.thinking),
    Family("remembering", 4, partial(memory.remembering, other=other_talk)),
    Family("remembering long", 1.5, partial(memory.remembering_long, other=other_talk)),
    Family("tool", 5, partial(calling.calling, mix=_MIXED)),
    Family("two tools", 5, partial(calling.calling_two, mix=_MIXED)),
    Family("tool answers", 2, partial(calling.answering, mix=_MIXED)),
    Family("no tool fits", 4, partial(calling.no_tool_fits, other=other_talk, mix=_MIXED)),
    Family("asking back", 2, partial(calling.asking_back, mix=_MIXED)),
)
practised_family = _chooser(_PRACTICE)
"""Draws more of what is hard: tools that fit, that do not, and two at once; stories about a thing; long talk."""
