"""Turns: a model that was evicted for another does not evict it at once in its turn."""

from __future__ import annotations

import math
from collections.abc import Iterable


class Turns:
    """Who was evicted for whom, and until when those may not evict anybody themselves.

    Two agents that alternate between two models which do not fit together thus cause one swap a turn, and
    not one a request. The first swap waits for nothing: a model that was not evicted a moment ago may evict.
    """

    def __init__(self, turn_s: float) -> None:
        self._turn_s = turn_s
        self._waits: dict[str, tuple[str, float]] = {}
        """Evicted model -> the one it left for, and the end of that one's turn: none before it is ready."""

    def evicted(self, models: Iterable[str], successor: str) -> None:
        """These left for the successor."""
        self._waits |= dict.fromkeys(models, (successor, math.inf))

    def ready(self, successor: str, now_s: float) -> None:
        """The successor serves: its turn has begun."""
        for model, (other, until_s) in self._waits.items():
            if other == successor and until_s == math.inf:
                self._waits[model] = (other, now_s + self._turn_s)

    def ended(self, successor: str) -> None:
        """The successor has gone, or nobody wants it any more: its turn is over, or never was."""
        self._waits = {model: wait for model, wait in self._waits.items() if wait[0] != successor}

    def before(self, model: str) -> str:
        """Whose turn comes before this model's."""
        return self._waits[model][0]

    def until_s(self, model: str, now_s: float) -> float | None:
        """When this model may evict again; None for now, infinity while its successor is not ready yet."""
        until_s = self._waits.get(model, ("", 0.0))[1]
        return until_s if until_s > now_s else None
