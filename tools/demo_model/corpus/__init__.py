"""The corpus of the demo model: everything that it learns is made here, and no text of anybody's is in it."""

from __future__ import annotations

from collections.abc import Iterator

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.everyday import EVERYDAY
from tools.demo_model.corpus.families import FAMILIES, PHASES, UNNAMED, other_talk
from tools.demo_model.corpus.nouns import Call, Case, Dialogue, Family, Message, Reply, Sample, Split, framed

ALONE = frozenset({"remembering", "remembering long"})
"""Families that bring their own other talk, before which none is put: it would answer what was not told."""


def dialogues(seed: int, split: Split, family: str | None = None, *, phase: int = 0) -> Iterator[Dialogue]:
    """Endless dialogues, the same for the same seed: of one family, or of all by their weights.

    phase: index into `PHASES`, of which the first draws evenly and the others more of what is hard.

    Of all, one in five begins with other talk, and one in fifty has the empty thoughts of an engine that was told
    not to think. Held-out dialogues are held out in what they are named after; other talk in them is not.
    """
    mix = PHASES[phase]
    draw = Draw(f"{seed} {split} {family}", split, mix.habits)
    while True:
        chosen = FAMILIES[family] if family else mix.family(draw)
        sample = chosen.draw(draw)
        messages = sample.messages
        if family is None:
            messages = _mixed(draw, chosen.name, sample)
        yield Dialogue(chosen.name, framed(draw, messages), sample.tools)


def _mixed(draw: Draw, name: str, sample: Sample) -> tuple[Message, ...]:
    messages = sample.messages
    if name not in ALONE and messages[0]["role"] == "user" and draw.chance(0.2):
        for _ in range(draw.between(1, 3)):
            messages = (*other_talk(draw.training()).messages, *messages)
    if "reasoning_content" not in messages[-1] and draw.chance(0.02):
        messages = (*messages[:-1], {**messages[-1], "reasoning_content": ""})
    return messages


__all__ = [
    "EVERYDAY",
    "FAMILIES",
    "PHASES",
    "UNNAMED",
    "Call",
    "Case",
    "Dialogue",
    "Family",
    "Message",
    "Reply",
    "Sample",
    "Split",
    "dialogues",
]
