"""From a worker's connection to the client's without waking a task for every token."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Generator
from typing import Any, Final

from uml.gateway.wire import Message, Send
from uml.runtime.workers.channel import Response

ERROR: Final = b'{"error":'
TAIL: Final = 6
"""Chunks kept to find the figures in: engines tell them at the very end."""


class Sink:
    """Takes the chunks of an answer and sends them on at once, in the worker's own callback.

    `send` of the HTTP server completes without waiting unless the client reads more slowly than the
    model writes. Then the worker is made to wait too, and a task sends on when there is room.

    failed: the chunk that holds an engine's error; nothing is sent from there on.
    """

    __slots__ = ("_blocked", "_pending", "_response", "_send", "failed", "tail")

    def __init__(self, send: Send, response: Response) -> None:
        self._send = send
        self._response = response
        self._blocked: asyncio.Task[None] | None = None
        self._pending: deque[bytes] = deque()
        self.failed: bytes | None = None
        self.tail: deque[bytes] = deque(maxlen=TAIL)

    def __call__(self, chunk: bytes) -> None:
        """Take a chunk."""
        if self.failed is not None:
            return
        if ERROR in chunk:
            self.failed = chunk
            self._response.close()
            return
        self.tail.append(chunk)
        if self._blocked is not None:
            self._pending.append(chunk)
            return
        sending = self._send({"type": "http.response.body", "body": chunk, "more_body": True}).__await__()
        try:
            waits_for = next(sending)
        except StopIteration:
            return
        self._response.pause()
        self._blocked = asyncio.get_running_loop().create_task(self._catch_up(sending, waits_for))

    async def drained(self) -> None:
        """Wait until everything that was taken is sent."""
        if self._blocked is not None:
            await self._blocked

    def close(self) -> None:
        """Send nothing more."""
        if self._blocked is not None:
            self._blocked.cancel()

    async def _catch_up(self, sending: Generator[Any, Any, None], waits_for: object) -> None:
        await _rest_of(sending, waits_for)
        while self._pending:
            chunk = self._pending.popleft()
            message: Message = {"type": "http.response.body", "body": chunk, "more_body": True}
            await self._send(message)
        self._blocked = None
        self._response.resume()


@types.coroutine
def _rest_of(sending: Generator[Any, Any, None], waits_for: object) -> Generator[Any, Any, None]:
    """Go on, in a task, with what was begun outside of one and now waits for a future."""
    yield waits_for
    yield from sending


__all__ = ["ERROR", "Sink"]
