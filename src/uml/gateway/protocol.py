"""HTTP as it comes from strangers: what uvicorn leaves without a limit, and without an answer of ours."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from uml.core.errors import BadRequest, HeadTooLarge, SlowRequest, UmlError

HEAD_LIMIT: Final = 1 << 16
"""Bytes of a request's first line and headers."""
PATIENCE_S: Final = 30.0
"""How long a request may take to begin or to finish its head, or to send more of its body."""


class Protocol(HttpToolsProtocol):
    """One connection of a client. A request that comes in one piece, as most do, starts no timer."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        before = self._current
        in_body = before is not None and before.more_body
        super().data_received(data)
        cycle = self._current
        if cycle is not None and (cycle is not before or in_body):
            self._head_bytes = 0
            if not cycle.more_body or cycle.response_complete:
                self._stop_waiting()
            else:
                self._wait()
            return
        # A head that is still coming: the first of the connection, or the next one.
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT:
            self._refuse(HeadTooLarge(HEAD_LIMIT))
        elif self._timer is None:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """Called for what is no HTTP, after which nothing that comes can be understood."""
        self._refuse(BadRequest("this is no HTTP/1.1 request that can be read"))

    def _unsupported_upgrade_warning(self) -> None:
        """An answer without the upgrade says enough to the client, and the log need not be told."""

    @property
    def _current(self) -> RequestResponseCycle | None:
        """The request that came last; none before the first one, whatever uvicorn's annotation says."""
        return cast("RequestResponseCycle | None", self.cycle)

    def _wait(self) -> None:
        self._heard = self.loop.time()
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(PATIENCE_S, self._look)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        rest = self._heard + PATIENCE_S - self.loop.time()
        if rest > 0 or self.pipeline:
            # What waits behind another answer is not read meanwhile.
            self._timer = self.loop.call_later(max(rest, 1.0), self._look)
        elif self._current is None and not self._head_bytes:
            self.transport.close()  # nothing was asked
        else:
            self._refuse(SlowRequest(PATIENCE_S))

    def _refuse(self, error: UmlError) -> None:
        """Say why, where no other answer is under way, and hang up."""
        self._stop_waiting()
        if self.transport.is_closing():
            return
        cycle = self._current
        if not self.pipeline and (cycle is None or not cycle.response_started or cycle.response_complete):
            body = orjson.dumps(error.as_dict())
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()
