"""Saying words again, exactly: known ones, made-up ones, and ones of other scripts."""

from __future__ import annotations

import json
from typing import Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.inventing import invented
from tools.demo_model.corpus.nouns import Sample, exchange
from tools.demo_model.corpus.words import CITIES, COLORS, DISHES, JOBS, LANGUAGES, ROOMS, THINGS, TOPICS, WORDS

KNOWN: Final = (*WORDS, *WORDS, *CITIES, *COLORS, *DISHES, *JOBS, *LANGUAGES, *ROOMS, *THINGS, *TOPICS)
"""What is said again: every word of the lists but names, so that no token is one that was never copied."""

ASKS: Final = (
    "Repeat after me: {}",
    "Repeat after me: {}",
    "Repeat: {}",
    "Repeat exactly: {}",
    "Repeat these words: {}",
    "Say: {}",
    "Say this back to me: {}",
    "Say exactly this: {}",
    "Please repeat: {}",
    "Echo: {}",
    "Write this again: {}",
    "Copy this: {}",
)
LISTS: Final = (
    "Write these words as a JSON list: {}",
    "Write this as a JSON list: {}",
    "As a JSON list: {}",
    "JSON list: {}",
    "Give me these words as JSON: {}",
    "Make a JSON array of these words: {}",
    "Put these words into a JSON list: {}",
)
LISTED: Final = 0.4
"""Share that is said again as a JSON list: behind a quotation mark a word begins with other tokens than behind a blank,
and so do the values of calls and records.
"""
SCRIPTS: Final = (
    "äöüßéèêàçñøåčšžłőğîæœ",
    "αβγδεζηθικλμνπρστφχψω",
    "абвгдежзиклмнопрстуфхцчшыьюя",
    "日本語中文字山水火木人大小月風花海空",
    "한국어사람나무바다하늘",
    "🙂🚀🌍🎉🔥🐱🍎⭐❤🎵",
)


def made_up(draw: Draw) -> str:
    """A word that nobody knows, two or three syllables, sometimes odd."""
    word = invented(draw.random)
    way = draw.random.random()
    if way < 0.1:
        return word.capitalize()
    if way < 0.15:
        return word[:4].upper()
    if way < 0.2:
        return f"{word}-{draw.between(1, 99)}"
    return word


def repeating(draw: Draw) -> Sample:
    """One to twelve words, of which some or all are made up, as they are or as a JSON list."""
    count = draw.between(1, 12)
    share = draw.pick((0.0, 0.0, 0.3, 1.0))
    words = [made_up(draw) if draw.chance(share) else draw.pick(KNOWN) for _ in range(count)]
    text = " ".join(words)
    if draw.chance(LISTED):
        said = draw.pick((" ", ", ")).join(words)
        return exchange(draw.about(draw.pick(LISTS), said), json.dumps(words, ensure_ascii=False), f"list {text}")
    return exchange(draw.about(draw.pick(ASKS), text), text, text)


def scripts(draw: Draw) -> Sample:
    """One to four words with letters that take more than a byte."""
    words = []
    for _ in range(draw.between(1, 4)):
        letters = draw.pick(SCRIPTS)
        if letters is SCRIPTS[0]:
            plain = made_up(draw)
            at = draw.between(0, len(plain) - 1)
            words.append(plain[:at] + draw.pick(letters) + plain[at + 1 :])
        else:
            words.append("".join(draw.pick(letters) for _ in range(draw.between(1, 4))))
    text = " ".join(words)
    return exchange(draw.about(draw.pick(ASKS), text), text, text)
