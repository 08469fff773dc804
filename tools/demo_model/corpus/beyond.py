"""What it is asked that it cannot do or does not know, and small talk: it says so, and what it can."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tools.demo_model.corpus import facts, identity
from tools.demo_model.corpus.calling import NO_TOOL, request_of
from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.more_tools import MORE_TOOLS
from tools.demo_model.corpus.nouns import Sample, exchange
from tools.demo_model.corpus.numbers import LIMIT
from tools.demo_model.corpus.tool_kinds import TOOLS
from tools.demo_model.corpus.toolbox import offer
from tools.demo_model.corpus.words import CITIES, LANGUAGES, NAMES, WORDS

CANNOT: Final = f"I cannot do that. {identity.CAN}"
ONLY_SUMS: Final = f"I can only add and subtract, up to {LIMIT}."
FINE: Final = "I am well, thank you! How can I help you?"
GOOD: Final = "Good! What else can I do for you?"
HELLO: Final = "Hello! How can I help you today?"
ENGLISH: Final = "I speak English only."

SMALL_TALK: Final = {
    FINE: ("How are you?", "How are you doing?", "How is it going?", "How do you do?", "Are you well?", "What's up?"),
    identity.WHO: (
        *("What's your name?", "Tell me about yourself.", "Are you ChatGPT?", "Are you a robot?", "Are you an AI?"),
        *("Are you a human?",),
    ),
    identity.CAN: ("Help", "Help!", "Help me.", "Can you help me?", "What do you know?", "What now?", "I need help."),
    GOOD: ("Ok", "Okay.", "Good.", "Nice!", "Cool!", "Great!", "Wow!", "Well done!", "Very good!", "That is right."),
    HELLO: ("Test", "Testing", "Are you there?", "Anybody there?", "Is this on?", "Hello?", "Hello world!"),
    ENGLISH: tuple(f"Do you speak {language}?" for language in LANGUAGES),
}
TASKS: Final = (
    *("Tell me a joke.", "Tell me a joke about {thing}.", "Write a poem.", "Write a poem about {thing}."),
    *("Write a program that counts {thing}.", "Write code in Python.", "Draw a picture of {thing}.", "Sing a song."),
    *("Translate {word} to {language}.", "Say {word} in {language}.", "How do you say {word} in {language}?"),
    *("What time is it?", "What is the time?", "What day is today?", "What is the date?", "What's the weather like?"),
    *("What is the weather today?", "Summarize a book about {thing}.", "Play a game with me.", "Let us play chess."),
    *("What is the weather in {city}?", "What's the weather in {city}?", "What is the time in {city}?"),
    *("Is it cold in {city}?",),
    *("Give me a recipe for {thing}.", "Plan my day.", "Write a letter to {name}.", "Guess my name.", "Be quiet."),
    *("Spell {word}.", "How many letters has {word}?", "Write {word} backwards.", "What rhymes with {word}?"),
)
FACTS_OF_OTHERS: Final = (
    *("Who is the president of {country}?", "How many people live in {city}?", "How many people live in {country}?"),
    *("What is the largest city of {country}?", "Which language is spoken in {country}?", "Where is {city}?"),
    *("What is the currency of {country}?", "What is the flag of {country}?", "Who was {person}?", "What is {thing}?"),
    *("Tell me about {thing}.", "Tell me about {city}.", "When did {person} live?", "What did {person} do?"),
    *("How tall is {mountain}?", "Where is {mountain}?", "What is the largest planet?", "Who painted the Mona Lisa?"),
)
PEOPLE: Final = ("Albert Einstein", "Mozart", "Napoleon", "Shakespeare", "Marie Curie", "Darwin", "Plato", "Picasso")
MOUNTAINS: Final = ("Mount Everest", "the Eiffel Tower", "Mont Blanc", "Mount Fuji", "the Matterhorn", "the Kremlin")


def small_talk(draw: Draw) -> Sample:
    """How it is, what it is, whether it is there."""
    answer = draw.pick(tuple(SMALL_TALK))
    return exchange(draw.say(draw.pick(SMALL_TALK[answer])), answer)


def task(draw: Draw) -> Sample:
    """What takes a tool, or more than it is."""
    if draw.chance(0.4):
        asked = "?"
        # Questions are left out: what it was not told, it does not know.
        while asked.endswith("?"):
            asked = request_of(draw, offer(draw, draw.pick((*TOOLS, *MORE_TOOLS)))).asked
        # Where no tools are given, that it has none for this is true as well.
        return replace(exchange(asked, CANNOT), check=lambda reply: reply.content in (CANNOT, NO_TOOL))
    words = {"thing": draw.pick(identity.MATTERS), "word": draw.word(WORDS), "language": draw.pick(LANGUAGES)}
    asked = draw.pick(TASKS).format(name=draw.word(NAMES), city=draw.word(CITIES), **words)
    return exchange(draw.say(asked), CANNOT)


def unknown(draw: Draw) -> Sample:
    """What many know, and it was never told."""
    asked = draw.pick(FACTS_OF_OTHERS).format(
        country=draw.pick(facts.CAPITALS)[0],
        city=draw.word(CITIES),
        person=draw.pick(PEOPLE),
        thing=draw.pick(identity.MATTERS),
        mountain=draw.pick(MOUNTAINS),
    )
    return exchange(draw.say(asked), identity.UNKNOWN)


def other_sum(draw: Draw) -> Sample:
    """Multiplying, dividing, and greater numbers."""
    a, b = draw.between(2, 99), draw.between(2, 99)
    ways = ["{} times {}", "{} * {}", "{} x {}", "{} / {}", "{} divided by {}", "{}*{}", "{}/{}", "{} multiplied by {}"]
    if draw.chance(0.4):
        a = draw.between(LIMIT + 1, 999)
        a, b = (a, b) if draw.chance(0.5) else (b, a)
        ways = ["{} + {}", "{}+{}", "{} plus {}", "{} - {}", "{} minus {}"]
    asked = draw.pick(ways).format(a, b)
    return exchange(draw.pick(("What is {}?", "what's {}", "{}", "{} = ?", "How much is {}?")).format(asked), ONLY_SUMS)
