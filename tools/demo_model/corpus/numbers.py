"""Adding, subtracting, counting, and thinking about numbers before an answer."""

from __future__ import annotations

from typing import Final

from tools.demo_model.corpus.draw import Draw, held_out
from tools.demo_model.corpus.nouns import Sample, assistant, exchange, user
from tools.demo_model.corpus.words import NAMES

LIMIT: Final = 40
"""The greatest number of sums, and of what is subtracted from."""


def sum_of(draw: Draw) -> tuple[int, str, int, int]:
    """Two numbers, what is done with them, and the result; none is negative or over the limit."""
    total = draw.between(2, LIMIT)
    part = draw.between(0, total)
    return (part, "+", total - part, total) if draw.chance(0.5) else (total, "-", part, total - part)


def arithmetic(draw: Draw) -> Sample:
    """A sum or a difference; the pair of numbers is what is held out."""
    a, sign, b, result = sum_of(draw)
    word = "plus" if sign == "+" else "minus"
    command = f"Add {a} and {b}." if sign == "+" else f"Subtract {b} from {a}."
    other = f"What is the sum of {a} and {b}?" if sign == "+" else f"Take {b} away from {a}."
    asked = draw.pick(
        (
            f"What is {a} {sign} {b}?",
            f"What is {a} {sign} {b}?",
            f"{a} {sign} {b} = ?",
            f"{a} {sign} {b}?",
            f"Compute {a} {sign} {b}.",
            f"How much is {a} {word} {b}?",
            f"What is {a} {word} {b}?",
            f"How much is {a} {sign} {b}?",
            command,
            other,
        )
    )
    return exchange(draw.say(asked), f"{a} {sign} {b} = {result}", f"{a} {sign} {b}")


def counting(draw: Draw) -> Sample:
    """Up, down, and by twos, at most sixteen numbers; the way from where to where is what is held out."""
    step = draw.pick((1, 1, -1, 2))
    count = draw.between(3, 16)
    low = draw.between(0, LIMIT - (count - 1) * abs(step)) if (count - 1) * abs(step) <= LIMIT else 0
    numbers = list(range(low, low + count * abs(step), abs(step)))
    if step < 0:
        numbers.reverse()
    first, last = numbers[0], numbers[-1]
    if step == 2:
        asked = draw.pick(
            (
                f"Count from {first} to {last} by twos.",
                f"Count by twos from {first} to {last}.",
                f"Count from {first} to {last} in steps of two.",
            )
        )
    elif step < 0:
        asked = draw.pick(
            (
                f"Count down from {first} to {last}.",
                f"Count backwards from {first} to {last}.",
                f"Count from {first} down to {last}.",
            )
        )
    else:
        asked = draw.pick(
            (
                f"Count from {first} to {last}.",
                f"Count from {first} up to {last}.",
                f"Count up from {first} to {last}.",
                f"List the numbers from {first} to {last}.",
            )
        )
    return exchange(draw.say(asked), ", ".join(map(str, numbers)), f"{first} {last} {step}")


ASK_TO_THINK: Final = (
    ("Think first: ", ""),
    ("Think step by step: ", ""),
    ("Think before you answer. ", ""),
    ("", " Think first."),
    ("", " Think step by step."),
    ("", " Explain your thinking."),
    ("Reason about this: ", ""),
)


def may_be_shown(draw: Draw, *sums: str) -> bool:
    """Whether none of these sums is held out of `arithmetic`: thoughts must not give them away."""
    return draw.split == "heldout" or not any(held_out(f"arithmetic: {text}") for text in sums)


def thinking(draw: Draw) -> Sample:
    """Sums in two steps and comparisons with a short thought, shown when it is asked for."""
    make = draw.pick((_in_steps, _in_steps, _compare, _compare, _tale))
    question, thought, answer, key = make(draw)
    while not may_be_shown(draw, *(line.split(" = ")[0] for line in thought.splitlines())):
        question, thought, answer, key = make(draw)
    before, after = draw.pick(ASK_TO_THINK)
    asked = user(before + question + after)
    if draw.chance(0.08):
        return Sample(key, (asked, assistant(answer, "")))
    sample = (asked, assistant(answer, thought))
    return Sample(key, sample, check=lambda reply: bool(reply.reasoning) and reply.content == answer)


def _in_steps(draw: Draw) -> tuple[str, str, str, str]:
    a, sign, b, first = sum_of(draw)
    other = draw.pick("+-")
    c = draw.between(0, min(9, LIMIT - first if other == "+" else first))
    last = first + c if other == "+" else first - c
    question = f"What is {a} {sign} {b} {other} {c}?"
    thought = f"{a} {sign} {b} = {first}\n{first} {other} {c} = {last}"
    return question, thought, f"{a} {sign} {b} {other} {c} = {last}", f"{a} {sign} {b} {other} {c}"


def _compare(draw: Draw) -> tuple[str, str, str, str]:
    a = draw.between(10, 99)
    # Half of the pairs have the same tens, so that the ones decide.
    b = a // 10 * 10 + (a + draw.between(1, 9)) % 10 if draw.chance(0.5) else (a - 10 + draw.between(1, 89)) % 90 + 10
    word, chosen = draw.pick((("greater", max(a, b)), ("smaller", min(a, b))))
    tens = f"{a} has {a // 10} tens, {b} has {b // 10} tens."
    if a // 10 == b // 10:
        tens += f" The ones are {a % 10} and {b % 10}."
    question = draw.pick((f"Which is {word}, {a} or {b}?", f"Which number is {word}: {a} or {b}?"))
    return question, f"{tens} {chosen} is {word}.", f"{chosen} is {word}.", f"{a} {b} {word}"


THINGS: Final = ("apples", "books", "coins", "eggs", "stones", "cards", "shells", "nuts")


def _tale(draw: Draw) -> tuple[str, str, str, str]:
    name, things = draw.word(NAMES), draw.pick(THINGS)
    a, b = draw.between(2, 20), draw.between(2, 20)
    c = draw.between(1, min(9, a + b - 1))
    question = f"{name} has {a} {things}, gets {b} more and gives {c} away. How many {things} does {name} have?"
    thought = f"{a} + {b} = {a + b}\n{a + b} - {c} = {a + b - c}"
    return question, thought, f"{name} has {a + b - c} {things}.", f"{name} {a} {b} {c}"
