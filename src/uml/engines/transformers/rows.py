"""Which conversation lies in which row of the slots. Decides with plain data, and moves nothing itself.

Answers at work are in the first rows; behind them lies what earlier ones have left, for whoever goes on with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uml.engines.transformers.answer import Answer


@dataclass(slots=True, eq=False)
class Row:
    """A row: the tokens that it holds, by which adapters it read them, and the answer that it works for."""

    held: list[int] = field(default_factory=list)
    scales: Mapping[int, float] = field(default_factory=dict)
    answer: Answer | None = None
    used: int = 0
    """When it was last used; later is higher."""

    @property
    def waiting(self) -> list[int]:
        """Tokens that are known and not yet read."""
        assert self.answer is not None
        done = len(self.held) - len(self.answer.prompt)
        return self.answer.prompt[len(self.held) :] if done < 0 else self.answer.made[done:]

    @property
    def reading(self) -> bool:
        """Whether it has a prompt to read before it can choose tokens."""
        return self.answer is not None and len(self.held) < len(self.answer.prompt)


def common(held: list[int], prompt: list[int], ring: int) -> int:
    """How many tokens of a prompt a row holds already; the last one must be read anew, for its scores.

    ring: what layers with a window keep. Beyond it a row can only go on, not back.
    """
    most = min(len(held), len(prompt) - 1)
    same = next((place for place in range(most) if held[place] != prompt[place]), most)
    return same if not ring or same == len(held) or len(held) <= ring else 0


def best_row(rows: list[Row], first: int, answer: Answer, ring: int, *, reuse: bool) -> tuple[int, int]:
    """The free row, from `first` on, for an answer, and how many tokens of its prompt it holds already.

    It is the one that holds most of them, or else the one that was idle longest.
    A row gives up what it holds beyond the common part, so a short common beginning takes no long conversation.
    """

    def shared(row: Row) -> int:
        return common(row.held, answer.prompt, ring) if reuse and row.scales == answer.scales else 0

    found = [(shared(row), index) for index, row in enumerate(rows[first:], first)]
    same, index = max(found, key=lambda pair: (pair[0], -rows[pair[1]].used))
    if same * 2 < len(rows[index].held):
        index = min(range(first, len(rows)), key=lambda place: (len(rows[place].held) > 0, rows[place].used))
        same = shared(rows[index])
    return index, same
