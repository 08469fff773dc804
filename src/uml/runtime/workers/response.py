"""An answer as it arrives from a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

HIGH_WATER: Final = 1 << 18
"""Bytes of an answer kept for a slow reader before the worker is made to wait."""


class ChannelBroken(ConnectionError):
    """The worker could not be reached, or the connection ended before the answer did."""


class Source(Protocol):
    """What a response needs of its connection."""

    def pause(self) -> None:
        """Read no more for now."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def abort(self) -> None:
        """End it at once."""
        ...


class Response:
    """An answer whose head has arrived.

    status: three digits. headers: in their order, names in lower case.
    Read the body once: `read`, `async for` or `pipe`. Close it, or use it as an async context
    manager, where the body is not read to its end: closing is the cancel.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_done",
        "_error",
        "_loop",
        "_sink",
        "_size",
        "_waiter",
        "headers",
        "paused",
        "status",
    )

    def __init__(self, connection: Source, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._connection = connection
        self._loop = loop
        self._chunks: list[bytes] = []
        self._size = 0
        self._done = False
        self._error: ChannelBroken | None = None
        self.paused = False
        self._sink: Callable[[bytes], object] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, its name in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises ChannelBroken when it breaks off or is longer than the limit."""
        parts: list[bytes] = []
        size = 0
        while True:
            size += self._size
            if size > limit_bytes:
                self.close()
                raise ChannelBroken(f"the worker's answer is longer than {limit_bytes} bytes")
            parts += self._chunks
            self._drained()
            if self._done:
                break
            await self._arrival()
        if self._error is not None:
            raise self._error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __aiter__(self) -> Response:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes of the body: what arrived together comes together."""
        chunks = self._chunks
        if not chunks and not self._done:
            await self._arrival()
        if chunks:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._drained()
            return data
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def pipe(self, sink: Callable[[bytes], object]) -> None:
        """Call `sink` with the bytes of the body the moment they arrive, until it ends.

        Cheaper than iterating: no task wakes for a chunk. `sink` must not raise; it may call
        `pause` and `resume`. Raises ChannelBroken when the body breaks off.
        """
        if self._chunks:
            data = b"".join(self._chunks)
            self._drained()
            sink(data)
        if not self._done:
            self._sink = sink
            await self._arrival()
        if self._error is not None:
            raise self._error

    def pause(self) -> None:
        """Let the worker wait: take no more bytes until `resume`."""
        if not self.paused and not self._done:
            self.paused = True
            self._connection.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        if self.paused:
            self.paused = False
            if not self._done:
                self._connection.resume()

    def close(self) -> None:
        """Cancel: end the connection at once, unless the whole answer is here already."""
        if not self._done:
            self._connection.abort()
            self.finish(ChannelBroken("the answer was closed"))

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def feed(self, data: bytes) -> None:
        """Take bytes of the body from the connection."""
        if self._sink is not None:
            self._sink(data)
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._done:
            self.pause()
        self._wake()

    def finish(self, error: ChannelBroken | None = None) -> None:
        """Take the end of the body from the connection."""
        self._done = True
        self._error = error
        self._wake()

    def _drained(self) -> None:
        self._chunks.clear()
        self._size = 0
        if self.paused:
            self.resume()

    async def _arrival(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
