"""Short stories of two whose names do not run together, a thing, a place, a trouble and an end.

A story is a plot with one sentence a slot; `holds_together` reads one back by the same sentences.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import Reply, Sample, exchange
from tools.demo_model.corpus.words import NAMES

KINDS: Final = (
    *("wolf", "fox", "bear", "mouse", "rabbit", "lion", "cat", "dog", "frog", "horse", "duck", "goat", "tiger"),
    *("robot", "dragon", "girl", "boy", "queen", "king", "wizard", "sailor", "farmer", "baker", "knight", "turtle"),
    *("pirate", "snake", "sheep"),
)
PLACES: Final = (
    *("forest", "castle", "village", "garden", "valley", "desert", "harbor", "cave", "meadow", "tower", "jungle"),
    *("city",),
)
OPENINGS: Final = (
    "Once there was a {first} named {a} who lived in a {place}.",
    "In a {place} there lived a {first} named {a}.",
    "Long ago a {first} named {a} lived in a {place}.",
)
FRIENDS: Final = (
    "{a} had a friend, a {second} named {b}.",
    "The best friend of {a} was a {second} named {b}.",
    "Next door lived a {second} named {b}.",
)


@dataclass(frozen=True, slots=True)
class Plot:
    """Sentences for each slot after the first two, and the things that it can be about."""

    things: tuple[str, ...]
    slots: tuple[tuple[str, ...], ...]


PLOTS: Final = (
    Plot(
        ("key", "ring", "coin", "crown", "book", "map", "watch"),
        (
            ("One day {a} lost a {thing}.", "One morning {a} could not find a {thing}."),
            ("Without the {thing} {a} was very sad.", "{a} looked everywhere, but the {thing} was gone."),
            ('"Do not cry," said {b}, "I will help you."', '"We will find it together," said {b}.'),
            ("{b} looked under every stone and found the {thing}.", "Behind an old tree {b} saw the {thing}."),
            ("{a} thanked {b}, and they danced all night.", "Since that day {a} and {b} share everything."),
        ),
    ),
    Plot(
        ("boat", "bridge", "house", "wagon", "kite"),
        (
            ("One summer {a} and {b} built a {thing}.", "One day {a} and {b} wanted to make a {thing}."),
            ("Then a storm came and broke the {thing}.", "But the wind was strong, and the {thing} fell apart."),
            ('"All our work is lost," said {a}.', "{a} wanted to give up."),
            ('"We can start again," said {b}.', "{b} brought new wood and smiled."),
            ("They worked until night, and the new {thing} was better.", "The second {thing} was strong and fine."),
            ("{a} and {b} were proud of it.", "Now {a} and {b} sit there every evening."),
        ),
    ),
    Plot(
        ("lamp", "shell", "box", "mirror", "bottle", "stone"),
        (
            ("One night {a} found a strange {thing}.", "In the grass {a} saw an old {thing}."),
            ("The {thing} began to shine, and {a} was afraid.", "A voice came out of the {thing}."),
            ("{a} ran home and told {b} about it.", "{a} carried the {thing} to {b}."),
            ('"It is magic," said {b}, "we can make one wish."', '"Let us wish for rain," said {b}.'),
            ("They wished, and soon the fields were green.", "They made a wish, and it came true."),
            ("{a} and {b} never forgot the {thing}.", "The {thing} still stands at the home of {b}."),
        ),
    ),
    Plot(
        ("cake", "soup", "bread", "pie"),
        (
            ("It was a birthday, and {a} made a {thing} for {b}.", "For the feast {a} made a {thing}."),
            ("But {a} took salt, not sugar.", "But the {thing} burned in the oven."),
            ("Nobody could eat the {thing}, and {a} wept.", "{a} hid the {thing} and wept."),
            ("{b} came and laughed.", "{b} saw it and was not angry."),
            ("Together {a} and {b} made a second {thing}.", "{b} showed {a} how to make it well."),
            ("It was the best {thing} in the land.", "They ate until nothing was left."),
        ),
    ),
    Plot(
        ("river", "mountain", "wall", "swamp"),
        (
            ("One winter {b} was ill and needed help.", "One day {b} called for help from far away."),
            ("Between them was a great {thing}.", "But the way led over a dangerous {thing}."),
            ("{a} was small, but {a} was brave.", "{a} took a rope and a lantern."),
            ("All night {a} fought with the {thing}.", "{a} crossed the {thing} step by step."),
            ('In the morning {a} came to {b} and said: "I am here."', "{b} heard steps, and there was {a}."),
            ("Soon {b} was well again.", "{b} smiled, and they went home together."),
        ),
    ),
)


ABOUT: Final = (0.45, 0.65, 0.8, 0.9)
"""Up to where, of 0 to 1, one kind is asked for, two kinds, a kind and a name, a kind and a thing; else two names."""


ANY: Final = (
    *("Tell me a story.", "Tell me a short story.", "Tell me another story.", "Tell a story.", "A story, please."),
    *("Write a story.", "Write a short story.", "I want to hear a story.", "Can you tell me a story?", "Story"),
    *("Make up a story.", "Please tell me a story.", "Do you know a story?", "Once upon a time"),
)


def story(
    draw: Draw, ways: tuple[float, float, float, float] = ABOUT, free: float = 0.0, *, any_friend: bool = False
) -> Sample:
    """A story about one kind of hero, perhaps with a friend, a name or a thing that the user wants.

    free: share of stories that may be about anything. any_friend: a friend who is asked for may have any name too, so
    that it has to be read, not known.
    """
    plot = draw.pick(PLOTS)
    first, second = draw.some(KINDS, 2)
    # A name that nobody asked for is one that the model knows; heroes and friends have names of their own, so that
    # the likeliest of each are two.
    a, b = draw.pick(draw.part(NAMES)[::2]), draw.pick(draw.part(NAMES)[1::2])
    thing = draw.pick(plot.things)
    facts = {"first": first, "second": second, "a": a, "b": b, "place": draw.pick(PLACES), "thing": thing}
    way = draw.random.random()
    if way < ways[0]:
        about, wanted = f"a {first}", {"first": first}
    elif way < ways[1]:
        about, wanted = f"a {first} and a {second}", {"first": first, "second": second}
    elif way < ways[2]:
        a = facts["a"] = _other_than(b, draw)
        about, wanted = f"a {first} named {a}", {"first": first, "a": a}
    elif way < ways[3]:
        about, wanted = f"a {first} and a {thing}", {"first": first, "thing": thing}
    else:
        b = facts["b"] = draw.word(NAMES) if any_friend else b
        a = facts["a"] = _other_than(b, draw)
        about, wanted = f"{a} and {b}", {"a": a, "b": b}
    asked = draw.pick(
        (
            f"Tell me a story about {about}.",
            f"Tell me a short story about {about}.",
            f"Write a story about {about}.",
            f"I want to hear a story about {about}.",
            f"Can you tell a story about {about}?",
        )
    )
    if free and draw.chance(free):
        asked, about, wanted = draw.pick(ANY), "", {}
    slots = (OPENINGS, FRIENDS, *plot.slots)
    text = " ".join(draw.pick(slot) for slot in slots).format(**facts)
    said = asked if "a" in wanted else draw.say(asked)
    sample = exchange(said, text, about or said)
    return Sample(sample.key, sample.messages, check=lambda reply: holds_together(reply, wanted))


def _other_than(taken: str, draw: Draw) -> str:
    """A name that is not taken."""
    while (name := draw.word(NAMES)) == taken:
        pass
    return name


def holds_together(reply: Reply, wanted: dict[str, str]) -> bool:
    """Whether it is a whole story of one plot, with two names, one thing and one place, and what was wanted."""
    return any(_reads(reply.content, plot, wanted) for plot in PLOTS)


def _reads(text: str, plot: Plot, wanted: dict[str, str]) -> bool:
    known: dict[str, str] = {}
    for slot in (OPENINGS, FRIENDS, *plot.slots):
        for sentence in slot:
            match = _pattern(sentence).match(text)
            found = match.groupdict() if match else {}
            if match and all(known.get(field, value) == value for field, value in found.items()):
                known |= found
                text = text[match.end() :].lstrip(" ")
                break
        else:
            return False
    return not text and known["a"] != known["b"] and all(known.get(field) == wanted[field] for field in wanted)


@cache
def _pattern(sentence: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        field = match[1]
        if field in seen:
            return f"(?P={field})"
        seen.add(field)
        return f"(?P<{field}>[A-Za-z]+)"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(sentence)))
