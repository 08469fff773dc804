"""The gateway as one ASGI application: hot paths by dictionary, everything else through FastAPI."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final

from uml.access import Guard, is_loopback
from uml.config import Settings
from uml.core.errors import NotFound, Overloaded, UmlError
from uml.gateway import native
from uml.gateway.judging import Judging
from uml.gateway.openai import Generation, Tokens
from uml.gateway.wire import JSON, Call, ClientGone, Message, Receive, Scope, Send, internal_error
from uml.house import House
from uml.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

CLIENT_GONE: Final = 499
_PREFLIGHT_AGE_S: Final = b"600"

Handler = Callable[[Call], Awaitable[None]]


class MethodNotAllowed(NotFound):
    """The path is there, for another method."""

    code, status = "method_not_allowed", 405


class Application:
    """Answers every request; nothing leaves it but JSON, event streams, `/metrics` and `/docs`."""

    def __init__(self, house: House, settings: Settings, metrics: Metrics) -> None:
        hosts = (*settings.allowed_hosts, *_own_names(settings.host))
        self._guard = Guard(settings.host, settings.api_key, hosts, settings.allowed_origins)
        self._metrics = metrics
        self._body_limit = settings.max_body_mib << 20
        limit = self._body_limit
        chat = Generation("chat", "/v1/chat/completions", house, metrics, limit)
        completion = Generation("completion", "/v1/completions", house, metrics, limit)
        embedding = Generation("embedding", "/v1/embeddings", house, metrics, limit)
        self._hot: dict[str, Handler] = {
            chat.path: chat,
            completion.path: completion,
            embedding.path: embedding,
            "/v1/rerank": Judging("rerank", house, metrics, limit),
            "/v1/classify": Judging("classify", house, metrics, limit),
            "/v1/tokenize": Tokens(house, limit, back=False),
            "/v1/detokenize": Tokens(house, limit, back=True),
        }
        self._rest = native.build(house, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        call = Call(scope, receive, send, perf_counter())
        self._metrics.in_flight += 1
        try:
            await self._answer(call)
        except ClientGone:
            call.status = CLIENT_GONE
        except UmlError as error:
            await call.fail(error)
        except asyncio.CancelledError:
            # The server is stopping and this request took too long to finish.
            await call.fail(Overloaded("the server is stopping; try again when it is up"))
        except Exception:
            # The boundary: whatever went wrong, the client gets an answer, and the log the reason.
            log.exception("internal error", extra={"request": call.id.decode(), "route": call.route})
            await call.fail(internal_error(call.id))
        finally:
            self._account(call)

    async def _answer(self, call: Call) -> None:
        guard = self._guard
        handler = self._hot.get(call.path)
        call.route = call.path if handler is not None else ""
        if call.origin:
            call.extra += self._cors(call)
        if call.preflight and call.method == "OPTIONS":
            # A browser sends no key with it; the request itself will have to.
            guard.check("/health/live", call.host, call.origin, b"", b"")
            await self._preflight(call)
            return
        guard.check(call.path, call.host, call.origin, call.authorization, call.api_key)
        if handler is None:
            await self._other(call)
        elif call.method == "POST":
            await handler(call)
        else:
            call.extra.append((b"allow", b"POST"))
            raise MethodNotAllowed(f"{call.path} takes POST, not {call.method}")

    async def _other(self, call: Call) -> None:
        """Through FastAPI: the body is read here, so that one limit holds everywhere."""
        body: bytes | None = await call.body(self._body_limit)

        async def receive() -> Message:
            nonlocal body
            if body is None:
                return await call.receive()
            message = {"type": "http.request", "body": body, "more_body": False}
            body = None
            return message

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *call.extra]}
            await call.send(message)

        call.scope["uml.call"] = call
        # All our bodies are JSON, whatever a client calls them: `curl -d` says they are a form.
        kept = [header for header in call.scope["headers"] if header[0] != b"content-type"]
        scope = {**call.scope, "headers": [*kept, JSON]}
        if call.method == "HEAD":
            # As GET; the server below leaves the body out.
            scope["method"] = "GET"
        try:
            await self._rest(scope, receive, send)
        finally:
            route = scope.get("route")
            call.route = getattr(route, "path_format", "") or "unknown"

    def _cors(self, call: Call) -> list[tuple[bytes, bytes]]:
        """Headers that let the page read the reply, where it may."""
        if not self._guard.allows_origin(call.origin.decode("latin-1"), call.host.decode("latin-1")):
            return []
        return [
            (b"access-control-allow-origin", call.origin),
            (
                b"access-control-expose-headers",
                b"x-request-id, x-uml-model, x-uml-queue-ms, x-uml-queue-position, retry-after",
            ),
            (b"vary", b"Origin"),
        ]

    async def _preflight(self, call: Call) -> None:
        call.route = "preflight"
        await call.reply(
            204,
            b"",
            [
                (b"access-control-allow-methods", b"GET, POST, DELETE"),
                (b"access-control-allow-headers", b"authorization, content-type, x-api-key, x-request-id"),
                (b"access-control-max-age", _PREFLIGHT_AGE_S),
            ],
        )

    def _account(self, call: Call) -> None:
        seconds = perf_counter() - call.began
        self._metrics.in_flight -= 1
        self._metrics.request(call.route or "unknown", call.model, call.status, seconds)
        if log.isEnabledFor(logging.DEBUG):
            told: dict[str, Any] = {"request": call.id.decode(), "route": call.route, "status": call.status}
            log.debug("answered", extra={**told, "model": call.model, "seconds": round(seconds, 4)})


def _own_names(host: str) -> tuple[str, ...]:
    """What other machines call this one, where they can reach it."""
    name = socket.gethostname()
    return () if is_loopback(host) else (name, f"{name}.local")


def application(house: House, settings: Settings, metrics: Metrics) -> Application:
    """The application over an open house."""
    return Application(house, settings, metrics)
