"""Who waits: a ticket in the queue, and its place as it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from uml.runtime.scheduling.events import Asked

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
