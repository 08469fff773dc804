"""Who waits: tickets in their order, and one walk through them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from uml.runtime.events import Asked

Why = Literal["memory", "turn", "load", "slot", "reload", "restart", "unload"]
"""What a ticket waits for: memory that others hold or give back, the end of another model's turn, its
model's load, a free slot, other options, the pause after a death, or its model's leaving."""


@dataclass(slots=True)
class Waiter:
    """A ticket in the queue.

    passed: how many overtook it while it waited for memory. possible: its model can be loaded as it wants,
    in place of the way that it is loaded now.
    """

    asked: Asked
    since_s: float
    passed: int = 0
    why: Why = "memory"
    possible: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A waiting ticket as it is shown: its place, from 1, and for how long and what it has waited."""

    model: str
    position: int
    waited_s: float
    waits_for: Why


@dataclass(slots=True)
class Walk:
    """What one walk through the queue has found so far.

    full: models of which an earlier ticket waits for a slot or a reload.
    starved: the first ticket that waits for memory; later ones may pass it only so often.
    wanted: the models whose memory it needs.
    in_turn: it waits for the end of their turn, until when everybody may pass.
    tried: models without a worker that were looked at already.
    """

    full: set[str] = field(default_factory=set)
    starved: Waiter | None = None
    wanted: set[str] = field(default_factory=set)
    in_turn: bool = False
    tried: set[str] = field(default_factory=set)

    def starve(self, waiter: Waiter, why: Why, wanted: tuple[str, ...] = ()) -> None:
        """This ticket waits for the memory of these models."""
        waiter.why = why
        self.starved, self.wanted, self.in_turn = waiter, set(wanted), why == "turn"

    def passes(self, model: str, limit: int) -> bool:
        """Whether a later request for a loaded model may be served before the starved one; counts it."""
        if self.starved is None or model not in self.wanted or self.in_turn:
            return True
        if self.starved.passed >= limit:
            return False
        self.starved.passed += 1
        return True
