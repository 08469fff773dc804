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

from uml.engines.hosted.answer import News

PAUSE_S: Final = 0.002
"""Tokens that come faster than one in this time are sent together, so many seconds' worth: nobody but a program reads
500 of them a second."""
SURE: Final = 16
"""Tokens of an answer, and of every look at its speed."""


class Feed:
    """What is told of one answer. One thread puts, the event loop takes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._news: deque[News] = deque()
        self._waits: asyncio.Future[None] | None = None
        self._deaf = False
        """The loop looks by itself, soon: it need not be woken but for an end."""
        self._taken, self._since = 0, 0.0

    def put(self, news: News) -> None:
        """Tell, from the thread that computes."""
        self._news.append(news)
        if (not self._deaf or _ends(news)) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def take(self) -> list[News]:
        """All that was told since the last time, one at least."""
        if self._deaf and not self._ended:
            await self._sleep(PAUSE_S)
            if not self._news:
                self._deaf = False  # and looked again behind this, for the other thread may not have seen it yet
        while not self._news:
            await self._sleep(None)
        found = []
        while self._news:
            found.append(self._news.popleft())
        self._listen(len(found))
        return found

    @property
    def _ended(self) -> bool:
        return bool(self._news) and _ends(self._news[-1])

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
        self._taken += count
        if self._taken >= SURE:
            now = monotonic()
            self._deaf = now - self._since < PAUSE_S * self._taken
            self._taken, self._since = 0, now

    def _wake(self) -> None:
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(None)


def _ends(news: News) -> bool:
    return news.finish is not None or news.token is None
