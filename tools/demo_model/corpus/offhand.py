"""What people type first: in the fewest words, or more than it can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tools.demo_model.corpus import beyond, facts, program
from tools.demo_model.corpus.copying import ASKS, KNOWN, made_up
from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import Family, Sample, assistant, exchange, user
from tools.demo_model.corpus.numbers import ASK_TO_THINK, THINGS, may_be_shown, sum_of
from tools.demo_model.corpus.words import DAYS, MONTHS, NAMES


def offhand(draw: Draw) -> Sample:
    """Any of them."""
    return draw.pick(_WAYS)(draw)


def _typed(draw: Draw, asked: str) -> str:
    """As typed in a hurry: in small letters or not, with a mark at the end or without."""
    asked = asked.lower() if draw.chance(0.4) else asked
    return asked + draw.pick(("", "", "?"))


def _capital(draw: Draw) -> tuple[str, str]:
    country, capital = draw.pick(facts.CAPITALS)
    other = draw.pick((capital, draw.pick(facts.CAPITALS)[1]))
    ways = ("capital of {}", "Capital of {}", "{} capital", "capital {}", "What's the capital of {}")
    asked = draw.pick((*ways, "The capital of {}", f"Is {other} the capital of {{}}"))
    return asked.format(country), f"The capital of {country} is {capital}."


def _opposite(draw: Draw) -> tuple[str, str]:
    pair = draw.pick(facts.OPPOSITES)
    word, opposite = pair if draw.chance(0.5) else pair[::-1]
    asked = draw.pick(("opposite of {}", "Opposite of {}", "{} opposite", "What's the opposite of {}"))
    return asked.format(word), f"The opposite of {word} is {opposite}."


def _color(draw: Draw) -> tuple[str, str]:
    thing, color = draw.pick(facts.COLORS)
    word = draw.pick(("color", "colour"))
    asked = draw.pick((f"{word} of {{}}", f"{word.title()} of {{}}", f"{{}} {word}", f"What's the {word} of {{}}"))
    return asked.format(thing), f"{thing[0].upper()}{thing[1:]} is {color}."


def _sound(draw: Draw) -> tuple[str, str]:
    animal, sound = draw.pick(facts.SOUNDS)
    a = "an" if animal[0] in "aeiou" else "a"
    asked = draw.pick((f"sound of {a} {{}}", "{} sound", "What does the {} say", "the sound of the {}"))
    return asked.format(animal), f"{a.capitalize()} {animal} {sound}."


def _plural(draw: Draw) -> tuple[str, str]:
    one, many = draw.pick(facts.PLURALS)
    asked = draw.pick(("plural of {}", "Plural of {}", "{} plural", "What's the plural of {}"))
    return asked.format(one), f"The plural of {one} is {many}."


def _neighbour(draw: Draw) -> tuple[str, str]:
    kind, names = ("day", DAYS) if draw.chance(0.5) else ("month", MONTHS)
    i = draw.between(0, len(names) - 1)
    side, step = draw.pick((("after", 1), ("before", -1)))
    asked = draw.pick((f"{kind} {side} {{}}", f"the {kind} {side} {{}}", f"What {kind} is {side} {{}}"))
    return asked.format(names[i]), f"{names[(i + step) % len(names)]} comes {side} {names[i]}."


_FACTS: Final = (_capital, _capital, _opposite, _color, _sound, _plural, _neighbour)


def _fact(draw: Draw) -> Sample:
    asked, answer = draw.pick(_FACTS)(draw)
    return exchange(_typed(draw, asked), answer)


def _shown_sum(draw: Draw) -> tuple[int, str, int, int]:
    """A sum that training may show, or of those that it may not."""
    while True:
        a, sign, b, result = sum_of(draw)
        if may_be_shown(draw, f"{a} {sign} {b}"):
            return a, sign, b, result


def _typed_sum(draw: Draw) -> Sample:
    a, sign, b, result = _shown_sum(draw)
    ways = ("{}{}{}", "{}{}{}=", "{}{}{}=?", "{} {} {} =", "{} {} {}", "What's {} {} {}?", "what's {}{}{}")
    more = ("Calculate {} {} {}", "Solve {} {} {}.", "what is {}{}{}?")
    asked = draw.pick((*ways, *more)).format(a, sign, b)
    return exchange(asked, f"{a} {sign} {b} = {result}", f"{a} {sign} {b}")


_UNTIL: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_COUNT_UP: Final = ("Count to {}", "Count up to {}", "Count until {}")
_COUNT_DOWN: Final = ("Count down from {}", "Count backwards from {}")


def _count(draw: Draw) -> Sample:
    last = draw.between(2, 16)
    said = _UNTIL[last - 1] if last <= len(_UNTIL) and draw.chance(0.4) else str(last)
    up = draw.chance(0.7)
    numbers = range(1, last + 1) if up else range(last, 0, -1)
    asked = draw.pick(_COUNT_UP if up else _COUNT_DOWN).format(said) + draw.pick(("", "."))
    return exchange(asked.lower() if draw.chance(0.3) else asked, ", ".join(map(str, numbers)))


_KNOWN_FACTS: Final = tuple(
    Family(name, 0, make)
    for name, make in (
        *(("capitals", facts.capitals), ("opposites", facts.opposites), ("colors", facts.colors)),
        *(("plurals", facts.plurals), ("calendar", facts.calendar), ("sounds", facts.sounds)),
    )
)


def _one_thought(draw: Draw) -> Sample:
    """To think about what takes one step: that step is the thought."""
    way = draw.random.random()
    if way < 0.3:
        known = draw.pick(_KNOWN_FACTS).draw(draw)
        question, answer = (message["content"] for message in known.messages)
        thought, key = answer, known.key
    else:
        a, sign, b, result = _shown_sum(draw)
        key = f"{a} {sign} {b}"
        thought = answer = f"{key} = {result}"
        word = "plus" if sign == "+" else "minus"
        question = draw.pick(("What is {}?", "what is {}?", "{}", "How much is {}?"))
        question = question.format(draw.pick((f"{a} {sign} {b}", f"{a} {word} {b}")))
        if way > 0.75:
            question, answer = _tale(draw, a, sign, b, result)
    before, after = draw.pick((*ASK_TO_THINK, ("Think: ", ""), ("Let us think. ", "")))
    sample = (user(before + question + after), assistant(answer, thought))
    return Sample(f"think {key}", sample, check=lambda reply: bool(reply.reasoning) and reply.content == answer)


def _tale(draw: Draw, a: int, sign: str, b: int, result: int) -> tuple[str, str]:
    name, things = draw.word(NAMES), draw.pick(THINGS)
    done = draw.pick(("gets", "finds", "buys")) if sign == "+" else draw.pick(("gives away", "loses", "sells"))
    more = f"{b} more" if sign == "+" else str(b)
    question = f"{name} has {a} {things} and {done} {more}. How many {things} does {name} have?"
    return question, f"{name} has {result} {things}."


def _sentence(draw: Draw) -> Sample:
    """A sentence as it is written, with its marks, or a word several times."""
    words = [made_up(draw) if draw.chance(0.2) else draw.pick(KNOWN) for _ in range(draw.between(2, 9))]
    if draw.chance(0.2):
        count, said = draw.pick(((2, "twice"), (2, "two times"), (3, "three times"), (4, "four times")))
        word = words[0]
        asked = draw.pick((f"Say {word} {said}", f"Repeat {word} {said}", f"Write {word} {said}"))
        return exchange(asked + draw.pick(("", ".")), " ".join([word] * count))
    if len(words) > 4 and draw.chance(0.3):
        words[draw.between(1, len(words) - 2)] += ","
    text = " ".join((draw.pick(("The", "A", "This", "My", "It is")), *words)) if draw.chance(0.5) else " ".join(words)
    text = text[0].upper() + text[1:] + draw.pick((".", ".", "!", "?", ""))
    if draw.chance(0.2):
        return exchange(draw.pick(('Repeat "{}"', 'Say "{}"', 'Say: "{}"', 'Repeat after me: "{}"')).format(text), text)
    if draw.chance(0.2):
        text = text.lower().rstrip(".!?")
        return exchange(draw.pick(("Say {}", "say {}", "repeat {}", "Repeat the words {}")).format(text), text)
    return exchange(draw.about(draw.pick(ASKS), text), text)


def _program(draw: Draw) -> Sample:
    """More of this program; and what is to be done, and no more."""
    if draw.chance(0.25):
        answer = draw.pick(tuple(program.MORE_ABOUT))
        return exchange(draw.say(draw.pick(program.MORE_ABOUT[answer])), answer)
    if draw.chance(0.6):
        topic = draw.pick(program.MORE_TOPICS)
        return exchange(draw.say(draw.pick(program.questions(topic))), f"Use `{topic.command}`.")
    topic = draw.pick((*program.TOPICS, *program.MORE_TOPICS))
    return exchange(_typed(draw, draw.pick(topic.does)), f"Use `{topic.command}`.")


_WAYS: Final[tuple[Callable[[Draw], Sample], ...]] = (
    *(_fact, _fact, _typed_sum, beyond.other_sum, _count, _one_thought, _one_thought),
    *(_sentence, _sentence, beyond.small_talk, beyond.task, beyond.task, beyond.unknown, _program, _program),
)
