"""What is so: capitals, opposites, colors, sounds, plurals, the calendar."""

from __future__ import annotations

from typing import Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import Sample, exchange
from tools.demo_model.corpus.words import DAYS, MONTHS


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [entry.strip().split(": ") for entry in text.split(",")]
    return tuple((first, second) for first, second in pairs)


CAPITALS: Final = _pairs(
    """Japan: Tokyo, France: Paris, Germany: Berlin, Italy: Rome, Spain: Madrid, Portugal: Lisbon, Norway: Oslo,
    Sweden: Stockholm, Finland: Helsinki, Denmark: Copenhagen, Poland: Warsaw, Austria: Vienna, Greece: Athens,
    Ireland: Dublin, England: London, Belgium: Brussels, Hungary: Budapest, Turkey: Ankara, Russia: Moscow,
    China: Beijing, India: New Delhi, South Korea: Seoul, Thailand: Bangkok, Vietnam: Hanoi, Indonesia: Jakarta,
    Egypt: Cairo, Kenya: Nairobi, Morocco: Rabat, Canada: Ottawa, Mexico: Mexico City, Cuba: Havana, Peru: Lima,
    Chile: Santiago, Brazil: Brasilia, Argentina: Buenos Aires, Australia: Canberra, Iceland: Reykjavik,
    Switzerland: Bern, the Netherlands: Amsterdam, the United States: Washington, Colombia: Bogota, Ghana: Accra"""
)
OPPOSITES: Final = _pairs(
    """hot: cold, big: small, fast: slow, up: down, day: night, open: closed, happy: sad, hard: soft, wet: dry,
    full: empty, rich: poor, early: late, high: low, young: old, clean: dirty, loud: quiet, strong: weak, heavy: light,
    dark: bright, good: bad, inside: outside, left: right, long: short, thick: thin, wide: narrow, true: false,
    front: back, first: last, push: pull, love: hate, win: lose, buy: sell, start: stop, near: far, easy: difficult,
    brave: afraid, sweet: sour, deep: shallow, war: peace, friend: enemy, always: never, yes: no, question: answer,
    sunrise: sunset, rough: smooth, polite: rude"""
)
COLORS: Final = _pairs(
    """the sky: blue, grass: green, snow: white, blood: red, a banana: yellow, a carrot: orange, coal: black,
    chocolate: brown, the sun: yellow, a lemon: yellow, a tomato: red, milk: white, a frog: green, the sea: blue,
    an elephant: gray, a flamingo: pink, an orange: orange, a strawberry: red, a raven: black, a polar bear: white,
    a fire truck: red, a pumpkin: orange, a cucumber: green, salt: white, a plum: purple, lavender: purple, mud: brown,
    an emerald: green, a ruby: red, the night: black, a swan: white, a leaf: green, a mouse: gray, a cloud: white,
    a cherry: red, a pea: green, honey: yellow, a pig: pink, a bear: brown, concrete: gray"""
)
SOUNDS: Final = _pairs(
    """cow: moos, dog: barks, cat: meows, duck: quacks, sheep: bleats, horse: neighs, lion: roars, pig: oinks,
    frog: croaks, bird: sings, bee: buzzes, owl: hoots, snake: hisses, wolf: howls, mouse: squeaks, donkey: brays,
    rooster: crows, hen: clucks, turkey: gobbles, monkey: chatters, elephant: trumpets, dove: coos, crow: caws"""
)
PLURALS: Final = _pairs(
    """mouse: mice, man: men, woman: women, child: children, foot: feet, tooth: teeth, goose: geese, ox: oxen,
    sheep: sheep, fish: fish, leaf: leaves, wolf: wolves, knife: knives, life: lives, wife: wives, loaf: loaves,
    shelf: shelves, city: cities, baby: babies, berry: berries, story: stories, party: parties, lady: ladies,
    box: boxes, fox: foxes, bus: buses, glass: glasses, dish: dishes, church: churches, watch: watches,
    potato: potatoes, tomato: tomatoes, hero: heroes, cat: cats, dog: dogs, book: books, tree: trees, car: cars,
    house: houses, apple: apples, river: rivers, star: stars, key: keys, boy: boys, cloud: clouds, song: songs,
    hat: hats, window: windows, bird: birds, flower: flowers"""
)
MONTH_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
ORDER: Final = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth"),
)


def capitals(draw: Draw) -> Sample:
    """The capital of a country, or the country of a capital."""
    country, capital = draw.pick(CAPITALS)
    if draw.chance(0.25):
        asked = draw.pick(
            (
                f"{capital} is the capital of which country?",
                f"Which country has {capital} as its capital?",
                f"What country is {capital} the capital of?",
            )
        )
        return exchange(draw.say(asked), f"{capital} is the capital of {country}.")
    asked = draw.pick(
        (
            f"What is the capital of {country}?",
            f"Which city is the capital of {country}?",
            f"Name the capital of {country}.",
            f"What is {country}'s capital?",
            f"Tell me the capital of {country}.",
            f"Do you know the capital of {country}?",
            f"The capital of {country} is?",
            f"What city is {country}'s capital?",
        )
    )
    return exchange(draw.say(asked), f"The capital of {country} is {capital}.")


def opposites(draw: Draw) -> Sample:
    """The opposite of a word, either way round."""
    pair = draw.pick(OPPOSITES)
    word, opposite = pair if draw.chance(0.5) else pair[::-1]
    asked = draw.pick(
        (
            f"What is the opposite of {word}?",
            f"Name the opposite of {word}.",
            f"Which word is the opposite of {word}?",
            f"What is the contrary of {word}?",
            f"Tell me the opposite of {word}.",
            f"Give me the opposite of the word {word}.",
        )
    )
    return exchange(draw.say(asked), f"The opposite of {word} is {opposite}.")


def colors(draw: Draw) -> Sample:
    """The color of a thing."""
    thing, color = draw.pick(COLORS)
    word = draw.pick(("color", "color", "colour"))
    asked = draw.pick(
        (
            f"What {word} is {thing}?",
            f"Which {word} is {thing}?",
            f"What is the {word} of {thing}?",
            f"Tell me the {word} of {thing}.",
            f"Which {word} does {thing} have?",
        )
    )
    return exchange(draw.say(asked), f"{thing[0].upper()}{thing[1:]} is {color}.")


def sounds(draw: Draw) -> Sample:
    """What an animal does when it is heard."""
    animal, sound = draw.pick(SOUNDS)
    a = "an" if animal[0] in "aeiou" else "a"
    asked = draw.pick(
        (
            f"What sound does {a} {animal} make?",
            f"What does {a} {animal} say?",
            f"Which sound does {a} {animal} make?",
            f"What noise does {a} {animal} make?",
            f"How does {a} {animal} sound?",
            f"Tell me what sound {a} {animal} makes.",
        )
    )
    return exchange(draw.say(asked), f"{a.capitalize()} {animal} {sound}.")


def plurals(draw: Draw) -> Sample:
    """The plural of a noun, or the singular."""
    one, many = draw.pick(PLURALS)
    if draw.chance(0.2):
        asked = draw.pick((f"What is the singular of {many}?", f"Tell me the singular of {many}."))
        return exchange(draw.say(asked), f"The singular of {many} is {one}.")
    asked = draw.pick(
        (
            f"What is the plural of {one}?",
            f"Name the plural of {one}.",
            f"Tell me the plural of {one}.",
            f"Which word is the plural of {one}?",
            f"Give me the plural of the word {one}.",
        )
    )
    return exchange(draw.say(asked), f"The plural of {one} is {many}.")


def calendar(draw: Draw) -> Sample:
    """Days and months: what comes before and after, how many, which one."""
    kind, names = ("day", DAYS) if draw.chance(0.5) else ("month", MONTHS)
    i = draw.between(0, len(names) - 1)
    name = names[i]
    way = draw.between(0, 9)
    if way == 0:
        month = draw.between(0, 11)
        asked = draw.pick((f"How many days does {MONTHS[month]} have?", f"How many days are in {MONTHS[month]}?"))
        return exchange(draw.say(asked), f"{MONTHS[month]} has {MONTH_DAYS[month]} days.")
    if way == 1:
        whole, part, count = draw.pick(
            (("week", "days", 7), ("year", "months", 12), ("day", "hours", 24), ("hour", "minutes", 60))
        )
        asked = draw.pick((f"How many {part} are in a {whole}?", f"How many {part} does a {whole} have?"))
        return exchange(draw.say(asked), f"A {whole} has {count} {part}.")
    if way == 2:
        whole = "week" if kind == "day" else "year"
        asked = draw.pick(
            (f"What is the {ORDER[i]} {kind} of the {whole}?", f"Which {kind} is the {ORDER[i]} of the {whole}?")
        )
        return exchange(draw.say(asked), f"The {ORDER[i]} {kind} of the {whole} is {name}.")
    side, step = draw.pick((("after", 1), ("before", -1)))
    other = names[(i + step) % len(names)]
    asked = draw.pick(
        (
            f"What {kind} comes {side} {name}?",
            f"Which {kind} comes {side} {name}?",
            f"What is the {kind} {side} {name}?",
            f"Which {kind} is {side} {name}?",
            f"Tell me the {kind} {side} {name}.",
        )
    )
    return exchange(draw.say(asked), f"{other} comes {side} {name}.")
