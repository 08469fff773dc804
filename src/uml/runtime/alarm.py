"""Rings at the next moment at which something is due, however quiet it is until then."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

SHORTEST_WAIT_S: Final = 0.001


class Alarm:
    """One alarm on the event loop. ring: called when it is time; moments are of `time.monotonic`."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def set(self, due_s: float) -> None:
        """Ring at this moment, or sooner: one that rings too early only has somebody look again. Infinity: never."""
        if due_s == math.inf or (self._timer and self._due_s <= due_s):
            return
        self.cancel()
        self._due_s = due_s
        wait_s = max(SHORTEST_WAIT_S, due_s - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._rings)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _rings(self) -> None:
        self._timer = None
        self._ring()
