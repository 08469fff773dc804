"""One connection to a worker: bytes in, responses out."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, cast

import httptools

from uml.runtime.workers.response import HIGH_WATER, ChannelBroken, Response

USE_LIMIT: Final = 90
"""Requests on one connection; llama.cpp's server ends it after 100."""


class Pool(Protocol):
    """Where a connection goes between two requests."""

    def keep(self, connection: Connection) -> None:
        """Take back a connection whose answer is complete."""
        ...

    def spent(self) -> None:
        """A connection has carried a stream to its end, and nothing after that."""
        ...

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        ...


class Connection(asyncio.Protocol):
    """One connection, which carries one request at a time."""

    __slots__ = (
        "_body",
        "_complete",
        "_framed",
        "_head",
        "_headers",
        "_loop",
        "_parser",
        "_pool",
        "_response",
        "_streamed",
        "_transport",
        "answered",
        "heard",
        "idle_since",
        "keep",
        "on_body",
        "sized",
        "uses",
    )

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._head: asyncio.Future[None] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._complete = False
        self._framed = False
        self.sized = False
        self.keep = False
        self._streamed = False
        self.answered = False
        self.uses = 0
        self.heard = 0
        self.idle_since = 0.0
        # The parser's body callback is a list's own append: no Python frame for a chunk.
        self._body: list[bytes] = []
        self.on_body = self._body.append
        self._parser: Any = httptools.HttpResponseParser(self)

    @property
    def alive(self) -> bool:
        """Whether a request may be tried on it."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def awaiting(self) -> bool:
        """Whether the worker is to send something: not while we ourselves read no further."""
        response = self._response
        return response is not None and not response.paused

    def send(self, data: bytes, body: bytes, keep: bool) -> tuple[Response, asyncio.Future[None]]:
        """Write a request. The future is done when the head of its answer is here."""
        assert self._transport is not None
        response = self._response = Response(self, self._loop)
        head = self._head = self._loop.create_future()
        self._headers = response.headers
        self._complete = self._framed = self.sized = self.answered = False
        self.keep = keep
        self._streamed = not keep
        self.uses += 1
        self.heard = 0
        if len(body) < HIGH_WATER:
            self._transport.write(data + body)
        else:
            self._transport.writelines((data, body))
        return response, head

    def pause(self) -> None:
        """Read no more for now."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """End it at once, whatever it carries."""
        self._response = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: parse, then hand on everything that came together at once."""
        response = self._response
        if response is None:
            # Nothing was asked: whatever this is, the next answer would be taken for it.
            self.abort()
            return
        self.answered = True
        self.heard += 1
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the worker's answer is not HTTP: {error}")
            self.abort()
            return
        body = self._body
        if self._complete:
            self._response = None
        if body:
            response.feed(body[0] if len(body) == 1 else b"".join(body))
            body.clear()
        if self._complete:
            response.finish()
            self._free()
        head = self._head
        # A body of known length follows its head at once: one wake-up serves both.
        if head is not None and response.status and (self._complete or not self.sized or response.paused):
            self._head = None
            if not head.done():
                head.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: the end of a body without a length, else a break."""
        self._transport = None
        self._parser = None
        self._pool.forget(self)
        response = self._response
        if response is not None and response.status and not self._framed:
            # Neither a length nor chunks: the end of the connection is the end of the body.
            self._response = None
            response.finish()
            if self._head is not None and not self._head.done():
                self._head.set_result(None)
            return
        self._fail(f"the worker closed the connection{f' ({exc})' if exc else ''}")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        name = name.lower()
        if name == b"content-length":
            self._framed = self.sized = True
        elif name == b"transfer-encoding":
            self._framed = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        status = self._parser.get_status_code()
        if status < 200:
            # 100 Continue, 103 Early Hints: the answer is still to come.
            self._headers.clear()
            self._framed = self.sized = False
        elif self._response is not None:
            self._response.status = status

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._response is not None and self._response.status:
            self._complete = True
            # Told now or never: the parser forgets it with the message.
            self.keep = self.keep and self._parser.should_keep_alive()

    def _free(self) -> None:
        if self.keep and self.uses < USE_LIMIT:
            self.idle_since = self._loop.time()
            self._pool.keep(self)
        elif self._transport is not None:
            self._transport.close()
            if self._streamed:
                self._pool.spent()

    def _fail(self, reason: str) -> None:
        response, head = self._response, self._head
        self._response = self._head = None
        if response is None:
            return
        response.finish(ChannelBroken(reason))
        if head is not None and not head.done():
            if response.status:
                head.set_result(None)
            else:
                head.set_exception(ChannelBroken(reason))
