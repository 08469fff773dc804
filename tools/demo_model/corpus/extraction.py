"""Sentences to JSON: several schemas, all fields or those that are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import Check, Sample, exchange
from tools.demo_model.corpus.words import (
    CITIES,
    COLORS,
    DAYS,
    DISHES,
    JOBS,
    MONTHS,
    NAMES,
    PET_NAMES,
    PETS,
    ROOMS,
    THINGS,
)

Record = dict[str, Any]


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _person(draw: Draw) -> tuple[str, Record]:
    name, age, city = draw.word(NAMES), draw.between(5, 95), draw.word(CITIES)
    text = draw.pick(
        (
            f"{name} is {age} years old and lives in {city}.",
            f"{name} lives in {city} and is {age} years old.",
            f"In {city} lives {name}, who is {age}.",
            f"{name}, {age}, comes from {city}.",
        )
    )
    return text, {"name": name, "age": age, "city": city}


def _worker(draw: Draw) -> tuple[str, Record]:
    name, job, city = draw.word(NAMES), draw.word(JOBS), draw.word(CITIES)
    text = draw.pick(
        (
            f"{name} works as {_a(job)} in {city}.",
            f"{name} is {_a(job)} from {city}.",
            f"The {job} {name} lives in {city}.",
        )
    )
    return text, {"name": name, "job": job, "city": city}


def _product(draw: Draw) -> tuple[str, Record]:
    item, color, price = draw.word(THINGS), draw.word(COLORS), draw.between(2, 300)
    text = draw.pick(
        (
            f"The {color} {item} costs {price} dollars.",
            f"A {item} in {color} is sold for {price} dollars.",
            f"For {price} dollars you get {_a(color)} {item}.",
        )
    )
    return text, {"item": item, "color": color, "price": price}


def _event(draw: Draw) -> tuple[str, Record]:
    event = draw.pick(("meeting", "party", "concert", "lesson", "dinner", "match", "wedding", "exam", "picnic"))
    day, hour, city = draw.pick(DAYS), draw.between(1, 12), draw.word(CITIES)
    text = draw.pick(
        (
            f"The {event} is on {day} at {hour} o'clock in {city}.",
            f"On {day} at {hour} there is a {event} in {city}.",
            f"A {event} takes place in {city} on {day} at {hour}.",
        )
    )
    return text, {"event": event, "day": day, "hour": hour, "city": city}


def _animal(draw: Draw) -> tuple[str, Record]:
    animal, name, owner = draw.pick(PETS), draw.word(PET_NAMES), draw.word(NAMES)
    text = draw.pick(
        (
            f"{owner} has a {animal} named {name}.",
            f"The {animal} {name} belongs to {owner}.",
            f"{name} is a {animal} and lives with {owner}.",
        )
    )
    return text, {"animal": animal, "name": name, "owner": owner}


def _order(draw: Draw) -> tuple[str, Record]:
    name, count, item = draw.word(NAMES), draw.between(2, 60), draw.word(THINGS) + "s"
    text = draw.pick(
        (
            f"{name} orders {count} {item}.",
            f"{count} {item} are for {name}.",
            f"We send {count} {item} to {name}.",
        )
    )
    return text, {"customer": name, "item": item, "count": count}


def _trip(draw: Draw) -> tuple[str, Record]:
    name, day, month = draw.word(NAMES), draw.between(1, 28), draw.pick(MONTHS)
    start, end = draw.word(CITIES), draw.word(CITIES)
    text = draw.pick(
        (
            f"{name} travels from {start} to {end} on {month} {day}.",
            f"On {month} {day} {name} goes from {start} to {end}.",
            f"The train of {name} leaves {start} for {end} on {month} {day}.",
        )
    )
    return text, {"name": name, "from": start, "to": end, "date": f"{month} {day}"}


def _meal(draw: Draw) -> tuple[str, Record]:
    dish, minutes, people = draw.word(DISHES), draw.between(5, 90), draw.between(2, 12)
    text = draw.pick(
        (
            f"The {dish} takes {minutes} minutes and feeds {people} people.",
            f"In {minutes} minutes you cook {dish} for {people} people.",
            f"{dish.capitalize()} for {people} people is ready in {minutes} minutes.",
        )
    )
    return text, {"dish": dish, "minutes": minutes, "people": people}


def _place(draw: Draw) -> tuple[str, Record]:
    thing, color, room = draw.word(THINGS), draw.word(COLORS), draw.word(ROOMS)
    text = draw.pick((f"The {color} {thing} is in the {room}.", f"In the {room} there is {_a(color)} {thing}."))
    return text, {"thing": thing, "color": color, "room": room}


SCHEMAS: Final[tuple[Callable[[Draw], tuple[str, Record]], ...]] = (
    *(_person, _person, _worker, _product, _event, _animal, _order, _trip, _meal, _place),
)


ASKS: Final = (
    *("Extract as JSON: {}", "Extract as JSON: {}", "Turn this into JSON: {}", "Make JSON of this: {}"),
    *("To JSON: {}", "{} Write this as JSON."),
)


def extraction(draw: Draw) -> Sample:
    """A sentence as a JSON object. With fields named, those and in that order; else all."""
    text, record = draw.pick(SCHEMAS)(draw)
    if draw.chance(0.45):
        fields = draw.some(tuple(record), draw.between(2, len(record)))
        record = {field: record[field] for field in fields}
        named = ", ".join(fields[:-1]) + " and " + fields[-1]
        ways = (f"Extract {named} as JSON: {{}}", f"Give me {named} as JSON: {{}}", f"JSON with {named}: {{}}")
        request = draw.pick((*ways, f"{{}} Write {named} as JSON."))
    else:
        request = draw.pick(ASKS)
    sample = exchange(draw.about(request, text), json.dumps(record))
    return Sample("", sample.messages, check=_parses_to(record))


def _parses_to(record: Record) -> Check:
    def check(reply: Any) -> bool:
        try:
            return bool(json.loads(reply.content) == record)
        except json.JSONDecodeError:
            return False

    return check
