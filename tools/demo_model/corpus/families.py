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
    offhand,
    program,
    stories,
    words,
)
from tools.demo_model.corpus.draw import USUAL, Draw, Habits, parts
from tools.demo_model.corpus.more_tools import MORE_TOOLS
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
    Family("repeating", 14, copying.repeating),
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
        family = _plain(draw)
        if draw.habits.short and family.name == "stories" and draw.chance(draw.habits.short):
            continue
        sample = family.draw(draw)
        if sample.messages[0]["role"] == "user":
            return sample


def _others(mix: calling.Mix, missing: float = 0.1, stranger: float = 0.0) -> tuple[Family, ...]:
    """The families beside the plain ones. missing, stranger: as of `remembering`."""
    remembering = partial(memory.remembering, other=other_talk, missing=missing, stranger=stranger)
    return (
        Family("thinking", 9, numbers.thinking),
        Family("remembering", 10, remembering),
        Family("remembering long", 1.5, partial(memory.remembering_long, other=other_talk)),
        Family("tool", 6, partial(calling.calling, mix=mix)),
        Family("two tools", 4, partial(calling.calling_two, mix=mix)),
        Family("tool answers", 2, partial(calling.answering, mix=mix)),
        Family("no tool fits", 3, partial(calling.no_tool_fits, other=other_talk, mix=mix)),
        Family("asking back", 2, partial(calling.asking_back, mix=mix)),
    )


_OFFHAND: Final = Family("offhand", 0, offhand.offhand)
_STORY: Final = partial(stories.story, free=0.1, any_friend=True)

FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family
    for family in (*_PLAIN, *_others(calling.CALLS, stranger=0.1), _OFFHAND, Family("stories", 0, _STORY))
}
"""As they are asked for when the model is examined."""

UNNAMED: Final = Family("unnamed tools", 0, partial(calling.calling, mix=calling.Mix(nameless=1.0)))
"""One call where only descriptions tell what a tool does: asked to know how far it goes, no bar is set."""

_NAMED: Final = calling.Mix(missing=0.25, double=0.4, nameless=0.15, all_names=True, alike=0.35)
_TWICE: Final = replace(_NAMED, nameless=0.08, double=0.5, counts=(1, 2, 2, 3, 3, 4, 5, 6))
_ANY: Final = replace(_TWICE, nameless=0.12, reword=0.5, kinds=(*TOOLS, *MORE_TOOLS), alike=0.5, casual=0.12)

any_family = _chooser((*_PLAIN, *_others(_NAMED)))
"""Draws one of all families by weight."""


_HARD: Final = {
    "manners": 3,
    "repeating": 10,
    "stories": 8,
    "extraction": 12,
    "scripts": 4,
    "thinking": 5,
    "remembering": 4,
    "remembering long": 3,
    "tool": 8,
    "two tools": 16,
    "tool answers": 2,
    "no tool fits": 5,
    "asking back": 2,
    "offhand": 12,
}
"""What is hard, with its usual weight in practice."""


def _practice(
    mix: calling.Mix,
    not_told: float = 0.1,
    stranger: float = 0.0,
    story: Callable[..., Sample] = stories.story,
    **weights: float,
) -> Callable[[Draw], Family]:
    """Draws more of what is hard: tools that fit, that do not, and two at once; stories about a thing; long talk.

    not_told: as `missing` of `remembering`. stranger: as of `remembering`. story: draws them, given the `ways`.
    weights: of the hard ones, by name, in place of the usual.
    """
    families = {family.name: family for family in (*_PLAIN, *_others(mix, not_told, stranger), _OFFHAND)}
    families["stories"] = Family("stories", 0, partial(story, ways=(0.2, 0.35, 0.55, 0.85)))
    easy = (replace(family, weight=family.weight / 2) for family in _PLAIN if family.name not in _HARD)
    hard = (replace(families[name], weight=weights.get(name.replace(" ", "_"), usual)) for name, usual in _HARD.items())
    return _chooser((*easy, *hard))


_HELD_OUT: Final = {
    word.lower() for known in vars(words).values() if isinstance(known, tuple) for word in parts(known)[1]
}
WORKS: Final = tuple(
    sorted({part for tool in TOOLS for name in tool.names if name.islower() for part in name.split("_")} - _HELD_OUT)
)
"""The words that names of tools are made of, without those that a list holds out."""


_PRACTISED: Final = Habits(invented=0.5, borrowed=WORKS, short=0.85)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the training: what is drawn, and how."""

    family: Callable[[Draw], Family]
    habits: Habits = USUAL


PHASES: Final = (
    Phase(any_family),
    Phase(_practice(_TWICE, 0.2, stories=4, remembering=6, remembering_long=4), _PRACTISED),
    Phase(
        _practice(
            _ANY,
            0.2,
            stranger=0.12,
            story=_STORY,
            stories=14,
            tool=12,
            two_tools=26,
            extraction=14,
            thinking=7,
            remembering=9,
            remembering_long=11,
            no_tool_fits=8,
            manners=4,
            offhand=20,
        ),
        replace(_PRACTISED, invented=0.7, borrowing=0.2, short=0.7, echoed=0.2),
    ),
)
"""Of the training: everything; what is hard, two calls at once above all, with words to be copied that are unknown, or
another tool's work ("any news about flights?"); and in the end the same with tools of more kinds, as anybody may
describe them, two of them in one sentence, what is to be remembered from afar or was never told, texts with a word
twice, and stories about anything. In both parts, what people type first.
Every name that a tool may have comes up; held out is what tools are asked with, and which of them come together.

Other talk in practice has few stories, and few tools have names of nonsense: the one cannot be foretold and the other
hardly, and of the loss that was left they were the most: what can still be learned was lost in their noise.
"""
