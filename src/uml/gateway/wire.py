"""HTTP without a framework: what the hot paths need of a request and its reply."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, Self

import orjson

from uml.core.duration import EXPECTED as DURATION
from uml.core.duration import duration_s
from uml.core.errors import BadRequest, BodyTooLarge, UmlError
from uml.core.quote import quoted

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
EVENTS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies of the nginx family would hold events back otherwise.
    (b"x-accel-buffering", b"no"),
)

_PREFIX: Final = os.urandom(4).hex()
_COUNTER: Final = itertools.count(1)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class Call:
    """One request: what is known of it, and the way back to its client.

    id: of the request, in the reply's `x-request-id`: the client's own where it sent a decent one.
    route, model: as they are counted. status: of the reply, 0 until it has begun.
    streaming: the reply is an event stream that has not ended.
    """

    __slots__ = (
        "api_key",
        "authorization",
        "began",
        "content_length",
        "extra",
        "host",
        "id",
        "method",
        "model",
        "origin",
        "path",
        "preflight",
        "receive",
        "route",
        "scope",
        "send",
        "status",
        "streaming",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, now: float) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.began = now
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.route = ""
        self.model = ""
        self.status = 0
        self.streaming = False
        self.host = self.origin = self.authorization = self.api_key = b""
        self.content_length = b""
        self.preflight = False
        self.extra: Headers = []
        """Headers that every reply to this request carries."""
        identity = b""
        for name, value in scope["headers"]:
            if name == b"host":
                self.host = value
            elif name == b"content-length":
                self.content_length = value
            elif name == b"authorization":
                self.authorization = value
            elif name == b"origin":
                self.origin = value
            elif name == b"x-api-key":
                self.api_key = value
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                identity = value
            elif name == b"access-control-request-method":
                self.preflight = True
        self.id: bytes = identity or f"{_PREFIX}-{next(_COUNTER):x}".encode()
        self.extra.append((b"x-request-id", self.id))

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body. Raises BodyTooLarge, before reading where the length is announced, or ClientGone."""
        if self.content_length and int(self.content_length) > limit_bytes:
            # What is still on its way must not be taken for the next request.
            self.extra.append((b"connection", b"close"))
            raise BodyTooLarge(limit_bytes)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > limit_bytes:
                self.extra.append((b"connection", b"close"))
                raise BodyTooLarge(limit_bytes)
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def start(self, status: int, headers: Headers) -> None:
        """Begin the reply."""
        self.status = status
        await self.send({"type": "http.response.start", "status": status, "headers": headers + self.extra})

    async def write(self, data: bytes, more: bool = True) -> None:
        """Send a part of the reply's body; without `more` it is the last."""
        await self.send({"type": "http.response.body", "body": data, "more_body": more})

    async def reply(self, status: int, body: bytes, headers: Headers) -> None:
        """Send a whole reply."""
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.write(body, more=False)

    async def reply_json(self, value: Any, status: int = 200) -> None:
        """Send a value as JSON."""
        await self.reply(status, encoded(value), [JSON])

    async def fail(self, error: UmlError) -> None:
        """Tell the client of an error, in whatever state the reply is."""
        if not self.status:
            self.extra += retry_after(error)
            await self.reply_json(error.as_dict(), error.status)
        elif self.streaming:
            self.streaming = False
            await self.write(event(error.as_dict()), more=False)


class ClientGone(Exception):
    """The client left before its request was complete: there is nobody to answer."""


class Listener:
    """Cancels the block when the client leaves; `gone` tells that it did.

    Enter it when the body has been read. Nothing that the block began outlives it: cancelling
    closes the connection to the worker, or leaves the queue.
    """

    __slots__ = ("_receive", "_task", "_watch", "gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.gone = False

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._watch = asyncio.get_running_loop().create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._watch.cancel()
        if not self.gone:
            return False
        self._task.uncancel()
        # Whatever else went wrong meanwhile, nobody is there to be told.
        return kind is None or issubclass(kind, asyncio.CancelledError | UmlError)


def retry_after(error: UmlError) -> Headers:
    """The header that tells when to ask again, for an error that says so."""
    seconds = error.details.get("retry_in_s")
    return [(b"retry-after", b"%d" % math.ceil(seconds))] if isinstance(seconds, int | float) else []


def stay(keep_alive: object) -> float | None:
    """The seconds of a body's `keep_alive`, infinity for ever; None where there is none. Raises BadRequest."""
    if keep_alive is None:
        return None
    try:
        return duration_s(keep_alive)
    except ValueError:
        raise BadRequest(f"keep_alive is {quoted(keep_alive)}; expected {DURATION}", param="keep_alive") from None


def internal_error(request: bytes) -> UmlError:
    """What a client is told of a fault of ours: where the log has more."""
    return UmlError(f"internal error; the server's log has more about request {request.decode()}")


def event(value: Any, name: str = "") -> bytes:
    """A server-sent event with JSON data."""
    head = f"event: {name}\n".encode() if name else b""
    return b"%sdata: %s\n\n" % (head, encoded(value))


def encoded(value: Any) -> bytes:
    """A value as JSON, also where it quotes what a stranger sent."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # A whole number beyond 64 bits, or a name on disk that is no UTF-8.
        return json.dumps(value).encode("ascii")


def parse_object(body: bytes) -> dict[str, Any]:
    """A body as a JSON object. Raises BadRequest with the place of the fault."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise BadRequest("the body is empty; expected a JSON object") from None
        raise BadRequest(
            f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})",
            line=error.lineno,
            column=error.colno,
        ) from None
    if type(value) is not dict:
        raise BadRequest(f"the body is {quoted(value)}; expected a JSON object")
    return value


def text_field(body: Mapping[str, Any], *names: str) -> str:
    """A text that goes by one of several names. Raises BadRequest."""
    given = [name for name in names if body.get(name) is not None]
    if not given:
        raise BadRequest(f"{names[0]} is missing; expected a text", param=names[0])
    if len(given) > 1:
        raise BadRequest(f"{' and '.join(given)} are the same; give one", param=given[1])
    text = body[given[0]]
    if type(text) is not str:
        raise BadRequest(f"{given[0]} is {quoted(text)}; expected a text", param=given[0])
    return str(text)
