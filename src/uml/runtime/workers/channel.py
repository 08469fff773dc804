"""HTTP/1.1 towards a worker, over its Unix socket or loopback: the way of every token.

What the engines' servers do, and what follows from it:

- llama.cpp's closes its connection after every streamed answer without saying so: a connection
  that carried a stream is never used again.
- It closes the others after 100 requests or 5 s idle: ours are given up a little earlier, and a
  reused one that dies before the first byte of an answer is replaced once by a fresh one.
- It keeps a thread busy for every open connection: an idle one is always taken before another
  is opened, for streams too.
- To connect takes as long as all the rest of what we do for a request: when a stream has ended and
  no connection is idle, the next one is opened at once, for whoever comes within seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from uml.core.engine import Ask, Endpoint
from uml.runtime.workers.connection import Connection
from uml.runtime.workers.response import HIGH_WATER, ChannelBroken, Response

IDLE_LIMIT_S: Final = 3.5
POOL_LIMIT: Final = 32
ANSWER_LIMIT: Final = 1 << 24
"""Bytes of an answer to the supervisor's own questions."""

Headers = Iterable[tuple[bytes, bytes]]

__all__ = ["Channel", "ChannelBroken", "Response"]


class Channel:
    """Requests to one worker. Belongs to the event loop that first uses it.

    No timeouts of its own: cancelling the task ends the connection, which is what cancels the
    work at the other end.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._idle: list[Connection] = []
        self._working: set[Connection] = set()
        host = "localhost" if endpoint.socket else f"{endpoint.host}:{endpoint.port}"
        key = f"Authorization: Bearer {endpoint.key}\r\n" if endpoint.key else ""
        self._common = f" HTTP/1.1\r\nHost: {host}\r\n{key}".encode("ascii")
        self._closed = False
        self._opening: asyncio.Task[None] | None = None

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Headers = (), *, stream: bool = False
    ) -> Response:
        """Send a request; the answer's head is there when this returns.

        path: with its query, in ASCII. headers: names and values without line ends; a body without
        `content-type` is called JSON. stream: the answer comes bit by bit over a long time, and its
        connection is not used again. Raises ChannelBroken.
        """
        head = self._head(method, path, body, headers)
        connection = self._take()
        if connection is not None:
            try:
                return await self._exchange(connection, head, body, stream)
            except ChannelBroken:
                if connection.answered:
                    raise
        return await self._exchange(await self._connect(), head, body, stream)

    async def health(self, path: str = "/health") -> int:
        """The status of a GET; 0 where nobody answers."""
        try:
            response = await self.request("GET", path)
            await response.read(HIGH_WATER)
        except ChannelBroken:
            return 0
        return response.status

    @property
    def awaited(self) -> int:
        """How many answers the worker owes: those that nobody here holds up."""
        return sum(1 for connection in self._working if connection.awaiting)

    @property
    def heard(self) -> int:
        """Changes when something of an answer has come; means nothing else."""
        return sum(connection.heard for connection in self._working)

    def close(self) -> None:
        """End the idle connections, and keep none from now on."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

    def keep(self, connection: Connection) -> None:
        """Take back a connection whose answer is complete."""
        self._working.discard(connection)
        if self._closed or len(self._idle) >= POOL_LIMIT:
            connection.abort()
        else:
            self._idle.append(connection)

    def spent(self) -> None:
        """A stream has used its connection up: have one ready for the next request."""
        if not self._closed and not self._idle and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open_ahead())

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self._working.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def _open_ahead(self) -> None:
        try:
            connection = await self._connect()
            connection.idle_since = asyncio.get_running_loop().time()
            self.keep(connection)
        except ChannelBroken:
            pass  # the next request will be told
        finally:
            self._opening = None

    def _take(self) -> Connection | None:
        idle = self._idle
        if not idle:
            return None
        # The newest is last, so if it is too old all are.
        connection = idle.pop()
        if connection.alive and asyncio.get_running_loop().time() - connection.idle_since < IDLE_LIMIT_S:
            return connection
        connection.abort()
        while idle:
            idle.pop().abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        endpoint = self.endpoint

        def protocol() -> Connection:
            return Connection(self, loop)

        try:
            if endpoint.socket is not None:
                _, connection = await loop.create_unix_connection(protocol, str(endpoint.socket))
            else:
                _, connection = await loop.create_connection(protocol, endpoint.host, endpoint.port)
        except OSError as error:
            raise ChannelBroken(f"the worker does not listen: {error}") from error
        return connection

    async def _exchange(self, connection: Connection, data: bytes, body: bytes, stream: bool) -> Response:
        if not connection.alive:
            raise ChannelBroken("the worker closed the connection")
        self._working.add(connection)
        response, head = connection.send(data, body, not stream)
        try:
            await head
        except asyncio.CancelledError:
            response.close()
            raise
        return response

    def _head(self, method: str, path: str, body: bytes, headers: Headers) -> bytes:
        lines = [f"{method} {path}".encode("ascii"), self._common]
        typed = False
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
            typed = typed or name.lower() == b"content-type"
        if body and not typed:
            lines.append(b"Content-Type: application/json\r\n")
        if body or method != "GET":
            lines.append(b"Content-Length: %d\r\n" % len(body))
        lines.append(b"\r\n")
        return b"".join(lines)


def asking(channel: Channel) -> Ask:
    """Questions of the supervisor itself, by this channel."""

    async def ask(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        response = await channel.request(method, path, body)
        return response.status, await response.read(ANSWER_LIMIT)

    return ask
