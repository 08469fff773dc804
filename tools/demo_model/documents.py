"""The corpus as the trainer reads it: an endless row of weighted texts that can be entered at any shard."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from tools.demo_model.chat import CHOSEN, SPOKEN, Span, render
from tools.demo_model.corpus import Dialogue, Split, dialogues

Spans: TypeAlias = tuple[Span, ...]

SHARD = 4096
"""Documents from one seed: what a resumed run reads again at most."""


class Documents(Protocol):
    """A source of documents: endless, and the same for the same arguments."""

    def __call__(self, seed: int, split: Split, start: int = 0) -> Iterator[Spans]:
        """The documents from number `start` on."""


def documents(
    seed: int,
    split: Split,
    start: int = 0,
    change: Callable[[Dialogue], Dialogue | None] | None = None,
    phase: int = 0,
) -> Iterator[Spans]:
    """The corpus, rendered as chats. Every shard has a seed of its own, so that entering late is cheap.

    `change` says otherwise what the dialogues say, and leaves out those that it makes None; `phase` is as for
    `dialogues`.
    """
    for shard in itertools.count(start // SHARD):
        skipped = start % SHARD if shard == start // SHARD else 0
        several = dialogues(seed * 1_000_003 + shard, split, phase=phase)
        kept = filter(None, map(change, several)) if change else several
        for dialogue in itertools.islice(kept, skipped, SHARD):
            yield render(dialogue, CHOSEN if phase else SPOKEN)
