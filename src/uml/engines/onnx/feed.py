"""From the thread that computes an answer to the event loop that sends it: at once, or every few tokens where they come
faster than anybody reads.

To wake the loop costs the computing thread a call of the system at every token, and makes both want the interpreter at
the same time: of a model with a step of 0.3 ms that took a tenth.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Final

from uml.engines.hosted.answer import Told

FAST_S: Final = 0.002
"""Tokens that come faster than one in this time are sent together: nobody but a program reads 500 of them a second."""
PAUSE_S: Final = 1 / 60
"""So many seconds' worth of them: screens show no more pictures. What the loop does with them costs the computing
thread up to 0.1 ms, whether they are many or few."""
SURE: Final = 16
"""Tokens of every look at an answer's speed."""


class Feed:
    """What is told of one answer. One thread puts, the event loop takes.

    fast: whether its tokens come faster than one in `FAST_S`; at first, whether those of the last answer did.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, fast: bool = False) -> None:
        self.fast = fast
        self._loop = loop
        self._told: deque[Told] = deque()
        self._waits: asyncio.Future[None] | None = None
        self._deaf = False
        """The loop looks by itself, soon: it need not be woken but for an end."""
        self._taken, self._since = 0, 0.0

    def put(self, told: Told) -> None:
        """Tell, from the thread that computes."""
        self._told.append(told)
        if (not self._deaf or _ends(told)) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def take(self) -> list[Told]:
        """All that was told since the last time, one at least."""
        if self._deaf and not self._ended:
            await self._sleep(PAUSE_S)
            if not self._told:
                self._deaf = False  # and looked again behind this, for the other thread may not have seen it yet
        while not self._told:
            await self._sleep(None)
        found = []
        while self._told:
            found.append(self._told.popleft())
        self._listen(len(found))
        return found

    @property
    def _ended(self) -> bool:
        return bool(self._told) and _ends(self._told[-1])

    async def _sleep(self, limit_s: float | None) -> None:
        self._waits = self._loop.create_future()
        timer = self._loop.call_later(limit_s, self._wake) if limit_s else None
        try:
            await self._waits
        finally:
            self._waits = None
            if timer is not None:
                timer.cancel()

    def _listen(self, count: int) -> None:
        """Decide, by the speed of the last tokens, whether to be woken by the next one."""
        now = monotonic()
        if not self._since:
            # The first ones came when the prompt was read, and say nothing of the speed of others.
            self._since, self._deaf = now, self.fast
            return
        self._taken += count
        if self._taken >= SURE:
            self.fast = self._deaf = now - self._since < FAST_S * self._taken
            self._taken, self._since = 0, now

    def _wake(self) -> None:
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(None)


def _ends(told: Told) -> bool:
    return not isinstance(told, int) and (told.finish is not None or told.token is None)
