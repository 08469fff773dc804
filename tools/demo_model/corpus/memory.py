"""Remembering what the user said, over other talk, short and long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import Message, Sample, assistant, user
from tools.demo_model.corpus.words import CITIES, COLORS, NAMES, PET_NAMES, PETS

LONG_CHARS: Final = (3400, 4600)
"""Length of long talk between the telling and the asking: 1,400 to 1,900 of the model's tokens with their markup."""
MIDDLE_CHARS: Final = 500
"""Where the lengths of training begin."""
ON_THE_WAY: Final = 0.1
"""How often training asks between two exchanges of other talk."""
MARKUP_CHARS: Final = 40
"""What the markup of two messages costs, in letters of text that make as many tokens."""


@dataclass(frozen=True, slots=True)
class Told:
    """One thing said by the user, and later asked for."""

    told: str
    heard: str
    asked: str
    answer: str


Exchanges = Callable[[Draw], Sample]
"""Draws other talk: one question, one answer."""


def _name(draw: Draw) -> Told:
    name = draw.word(NAMES)
    return Told(
        draw.pick(
            (
                *(f"My name is {name}.", f"My name is {name}.", f"I am {name}.", f"Call me {name}.", f"I'm {name}."),
                *(f"Hi, I am {name}.", f"Hello, my name is {name}.", f"People call me {name}."),
            )
        ),
        f"Nice to meet you, {name}!",
        draw.pick(
            (
                *("What is my name?", "What is my name?", "Who am I?", "Do you remember my name?", "What am I called?"),
                *("Tell me my name.", "Say my name.", "Which name did I tell you?"),
            )
        ),
        f"Your name is {name}.",
    )


def _color(draw: Draw) -> Told:
    color = draw.word(COLORS)
    return Told(
        draw.pick(
            (
                *(f"My favorite color is {color}.", f"I like the color {color} best.", f"I love the color {color}."),
                f"{color.capitalize()} is my favorite color.",
            )
        ),
        f"{color.capitalize()} is a lovely color.",
        draw.pick(
            (
                *("What is my favorite color?", "Which color do I like?", "What color do I like best?"),
                *("Tell me my favorite color.", "Do you remember my favorite color?"),
            )
        ),
        f"Your favorite color is {color}.",
    )


def _number(draw: Draw) -> Told:
    number = str(draw.number(1, 99) if draw.chance(0.6) else draw.number(100, 9999))
    return Told(
        draw.pick(
            (
                *(f"My lucky number is {number}.", f"Remember the number {number}.", f"My number is {number}."),
                f"{number} is my lucky number.",
            )
        ),
        f"I will remember {number}.",
        draw.pick(
            (
                *("What is my number?", "What is my lucky number?", "Which number did I tell you?"),
                *("Tell me my number.", "Do you remember my number?"),
            )
        ),
        f"Your number is {number}.",
    )


def _pet(draw: Draw) -> Told:
    pet, name = draw.pick(PETS), draw.word(PET_NAMES)
    return Told(
        draw.pick(
            (
                *(f"I have a {pet} named {name}.", f"My {pet} is called {name}.", f"My {pet}'s name is {name}."),
                f"I have a {pet}. It is called {name}.",
            )
        ),
        f"{name} is a good name for a {pet}.",
        draw.pick(
            (
                *(f"What is my {pet} called?", f"What is the name of my {pet}?", "What is my pet called?"),
                *("Which pet do I have?", f"What is my {pet}'s name?"),
            )
        ),
        f"You have a {pet} named {name}.",
    )


def _city(draw: Draw) -> Told:
    city = draw.word(CITIES)
    return Told(
        draw.pick((f"I live in {city}.", f"I am from {city}.", f"My home is in {city}.", f"My home town is {city}.")),
        f"{city} is a nice place.",
        draw.pick(
            (
                *("Where do I live?", "Which city do I live in?", "Where is my home?", "Where am I from?"),
                *("Do you remember where I live?", "Tell me where I live."),
            )
        ),
        f"You live in {city}.",
    )


KINDS: Final = {"name": (_name, 3), "color": (_color, 2), "number": (_number, 2), "pet": (_pet, 2), "city": (_city, 2)}
NOT_TOLD: Final = {
    "name": "You have not told me your name.",
    "color": "You have not told me your favorite color.",
    "number": "You have not told me a number.",
    "pet": "You have not told me about a pet.",
    "city": "You have not told me where you live.",
}
_BAG: Final = tuple(kind for kind, (_, weight) in KINDS.items() for _ in range(weight))


def _kinds(draw: Draw, count: int) -> list[str]:
    chosen = [draw.pick(_BAG)]
    while len(chosen) < count:
        kind = draw.pick(_BAG)
        if kind not in chosen:
            chosen.append(kind)
    return chosen


def remembering(draw: Draw, other: Exchanges, missing: float = 0.1, stranger: float = 0.0) -> Sample:
    """One to three things told, none to three exchanges of other talk between, then one or two asked for.

    missing: how often what is asked for was not told. stranger: how often nothing was told at all.
    """
    if stranger and draw.chance(stranger):
        return _stranger(draw, other)
    messages: list[Message] = []
    kinds = _kinds(draw, draw.pick((1, 1, 2, 2, 3)))
    facts = [KINDS[kind][0](draw) for kind in kinds]
    if len(facts) == 2 and draw.chance(0.3):
        joined = facts[0].told.rstrip(".") + " and " + _small(facts[1].told)
        messages += [user(joined), assistant(f"{facts[0].heard} {facts[1].heard}")]
    else:
        for fact in facts:
            messages += [user(fact.told), assistant(fact.heard)]
            if draw.chance(0.2):
                messages += other(draw.training()).messages
    for _ in range(draw.pick((0, 0, 1, 2, 3))):
        messages += other(draw.training()).messages
    if draw.chance(missing):
        return _not_told(draw, messages, kinds)
    for fact in draw.some(facts, draw.between(1, min(2, len(facts)))):
        messages += _asked(draw, fact)
    # The values are words and numbers of the draw's own split.
    return Sample("", tuple(messages))


def _small(told: str) -> str:
    """As the second half of a sentence; a name or an `I` stays great."""
    return told[0].lower() + told[1:] if told.startswith(("My ", "Remember ", "Call ", "People ")) else told


def _not_told(draw: Draw, messages: list[Message], kinds: list[str]) -> Sample:
    missing = draw.pick([kind for kind in KINDS if kind not in kinds])
    messages += [user(KINDS[missing][0](draw).asked), assistant(NOT_TOLD[missing])]
    return Sample("", tuple(messages))


def _stranger(draw: Draw, other: Exchanges) -> Sample:
    """Up to two exchanges of other talk, then what was never told is asked for: what people tell most, their name."""
    # With no other talk there is nothing to hold out: training alone has it.
    before = range(draw.between(0 if draw.split == "train" else 1, 2))
    messages = [message for _ in before for message in other(draw.training()).messages]
    kind = draw.pick(_BAG)
    asked = KINDS[kind][0](draw).asked
    return Sample("", (*messages, user(draw.say(asked)), assistant(NOT_TOLD[kind])))


def remembering_long(draw: Draw, other: Exchanges) -> Sample:
    """One thing told, much other talk, then asked for; in training up to three, asked for on the way too."""
    training = draw.split == "train"
    facts = [KINDS[kind][0](draw) for kind in _kinds(draw, draw.between(1, 3) if training else 1)]
    messages = [message for fact in facts for message in (user(fact.told), assistant(fact.heard))]
    # Training goes over every distance on the way to the long ones.
    left = draw.between(MIDDLE_CHARS if training else LONG_CHARS[0], LONG_CHARS[1])
    while left > 0:
        said = other(draw.training()).messages
        left -= sum(len(message["content"]) for message in said) + MARKUP_CHARS
        messages += said
        if training and draw.chance(ON_THE_WAY):
            messages += _asked(draw, draw.pick(facts))
    return Sample("", (*messages, *(message for fact in facts for message in _asked(draw, fact))))


def _asked(draw: Draw, fact: Told) -> tuple[Message, Message]:
    return user(draw.say(fact.asked)), assistant(fact.answer)
