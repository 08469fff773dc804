"""Who waits: a ticket in the queue, and its place as it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from uml.runtime.scheduling.events import Asked
from uml.runtime.scheduling.residency import Resident

Why = Literal["memory", "turn", "load", "slot", "reload", "restart", "unload"]
"""What a ticket waits for: memory that others hold or give back, the end of another model's turn, its
model's load, a free slot, other options, the pause after a death, or its model's leaving."""


@dataclass(slots=True)
class Waiter:
    """A ticket in the queue.

    passed: how many overtook it while it waited for memory. possible: its model can be loaded as it wants,
    in place of the way that it is loaded now. held_by: the models that are in its way, see `Place`.
    """

    asked: Asked
    since_s: float
    passed: int = 0
    why: Why = "memory"
    possible: bool = False
    held_by: tuple[str, ...] = ()

    def wait_for(self, why: Why, held_by: tuple[str, ...] = ()) -> None:
        """It could not be helped now, for this."""
        self.why, self.held_by = why, held_by


@dataclass(frozen=True, slots=True)
class Place:
    """A waiting ticket as it is shown: its place, from 1, and for how long and what it has waited.

    held_by: the other models that are in its way: those whose memory it needs, or that come before it.
    reason: what it waits for in words, with what those models do: `the memory of qwen, which is busy`.
    """

    model: str
    position: int
    waited_s: float
    waits_for: Why
    held_by: tuple[str, ...] = ()
    reason: str = ""


def shown(waiter: Waiter, position: int, now_s: float, workers: Mapping[str, Resident]) -> Place:
    """The place of a ticket, with what the workers do now."""
    waited_s = max(0.0, now_s - waiter.since_s)
    reason = _reason(waiter, workers)
    return Place(waiter.asked.model.id, position, waited_s, waiter.why, waiter.held_by, reason)


def _reason(waiter: Waiter, workers: Mapping[str, Resident]) -> str:
    names = waiter.held_by
    if waiter.why == "turn":
        return f"its turn, after {' and '.join(names)}"
    if waiter.why != "memory":
        return _OWN[waiter.why]
    if held := [f"{name}, which is {_doing(workers[name])}" for name in names if name in workers]:
        return f"the memory of {', and of '.join(held)}"
    return f"memory, after {' and '.join(names)}, which waits for it too" if names else "memory that is on its way back"


def _doing(worker: Resident) -> str:
    if worker.state == "ready":
        return "busy" if worker.holders else "idle"
    return "loading" if worker.state == "starting" else "leaving"


_OWN: Final[Mapping[Why, str]] = {
    "load": "its model, which is loading",
    "slot": "a free slot of its model",
    "reload": "its model to be idle: it is loaded with other options",
    "restart": "the end of a pause: its model's process has died",
    "unload": "its model to leave: it is being unloaded",
}
"""What has nothing to do with other models."""
