"""Everything that the model can do, with its share of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
    words,
)
from tools.demo_model.corpus.draw import INVENTED, Draw, parts
from tools.demo_model.corpus.nouns import Family, Sample
from tools.demo_model.corpus.tool_kinds import TOOLS

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

UNNAMED: Final = Family("unnamed tools", 0, partial(calling.calling, mix=calling.Mix(nameless=1.0)))
"""One call where only descriptions tell what a tool does: asked to know how far it goes, no bar is set."""

any_family = _chooser(_ALL)
"""Draws one of all families by weight."""


def _practice(mix: calling.Mix, **weights: float) -> Callable[[Draw], Family]:
    """Draws more of what is hard: tools that fit, that do not, and two at once; stories about a thing; long talk."""
    easy = (family for family in _PLAIN if family.name not in ("manners", "stories", "extraction"))
    hard = (
        Family("manners", 3, identity.manners),
        Family("stories", 5, partial(stories.story, ways=(0.2, 0.35, 0.55, 0.85))),
        Family("extraction", 6, extraction.extraction),
        Family("scripts", 2, copying.scripts),
        Family("thinking", 5, numbers.thinking),
        Family("remembering", 4, partial(memory.remembering, other=other_talk)),
        Family("remembering long", 1.5, partial(memory.remembering_long, other=other_talk)),
        Family("tool", 7, partial(calling.calling, mix=mix)),
        Family("two tools", 7, partial(calling.calling_two, mix=mix)),
        Family("tool answers", 2, partial(calling.answering, mix=mix)),
        Family("no tool fits", 6, partial(calling.no_tool_fits, other=other_talk, mix=mix)),
        Family("asking back", 2, partial(calling.asking_back, mix=mix)),
    )
    return _chooser(
        (
            *(replace(family, weight=family.weight / 2) for family in easy),
            *(replace(family, weight=weights.get(family.name.replace(" ", "_"), family.weight)) for family in hard),
        )
    )


_FEW: Final = calling.Mix(missing=0.3, double=0.25, nameless=0.4)
_MANY: Final = replace(_FEW, double=0.35, counts=(1, 2, 3, 3, 4, 4, 5, 5, 6, 6))
_NAMED: Final = calling.Mix(missing=0.25, double=0.4, nameless=0.1, all_names=True, counts=(1, 2, 2, 3, 3, 4, 5, 6))
_TWICE: Final = replace(_NAMED, double=0.6)
_HELD_OUT: Final = {
    word.lower() for known in vars(words).values() if isinstance(known, tuple) for word in parts(known)[1]
}
WORKS: Final = tuple(
    sorted({part for tool in TOOLS for name in tool.names if name.islower() for part in name.split("_")} - _HELD_OUT)
)
"""The words that names of tools are made of, without those that a list holds out."""


@dataclass(frozen=True, slots=True)
class Round:
    """A round of practice. invented: share of the words to be copied that their list lacks; borrowed: as `Draw`."""

    family: Callable[[Draw], Family]
    invented: float = INVENTED
    borrowed: tuple[str, ...] = ()


ROUNDS: Final = (
    Round(_practice(_FEW)),
    Round(_practice(_MANY, tool=8, two_tools=10, no_tool_fits=4, extraction=8)),
    Round(_practice(_NAMED, tool=6, two_tools=12, no_tool_fits=4, extraction=9, stories=9, remembering_long=2.5)),
    Round(
        _practice(_NAMED, tool=5, two_tools=16, no_tool_fits=4, extraction=9, stories=9, remembering_long=3),
        invented=0.6,
    ),
    Round(
        _practice(_TWICE, tool=5, two_tools=24, no_tool_fits=4, extraction=8, stories=8, remembering_long=3),
        invented=0.6,
    ),
    Round(
        _practice(_TWICE, tool=6, two_tools=24, no_tool_fits=4, extraction=8, stories=8, remembering_long=5),
        invented=0.6,
        borrowed=WORKS,
    ),
)
"""Of practice: tools with names that say nothing; more of them to choose from; every name that a tool may have (what
stays held out is what they are asked with, and which of them come together); two at once, with unknown words; more of
those; and words to be copied that are another tool's work: "any news about flights?".
"""
