"""A corpus of a few sentences: what tests of the training learn from."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from tools.demo_model.chat import Span
from tools.demo_model.corpus import Split
from tools.demo_model.documents import Spans

COLORS = {"sky": "blue", "grass": "green", "snow": "white", "blood": "red", "coal": "black"}


def small_corpus(seed: int, split: Split, start: int = 0) -> Iterator[Spans]:
    """Colours asked once or many times: documents of a dozen tokens and of a thousand."""
    for number in itertools.count(start):
        chance = random.Random(f"{seed} {split} {number}")
        turns = chance.choices([1, 2, 60], [80, 19, 1])[0]
        spans: list[Span] = []
        for thing in chance.choices(list(COLORS), k=turns):
            asked = f"<|im_start|>user\nWhat color is the {thing}?<|im_end|>\n<|im_start|>assistant\n"
            spans += [Span(asked, 0.1), Span(f"The {thing} is {COLORS[thing]}.<|im_end|>", 1.0), Span("\n", 0.1)]
        yield tuple(spans)
