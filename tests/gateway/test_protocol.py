"""HTTP as strangers speak it, over bare sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from tests.gateway.server import Server
from tests.waiting import eventually
from uml.gateway import protocol
from uml.gateway.protocol import HEAD_LIMIT, Protocol

HOST = b"Host: localhost\r\n"


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=20) as client:
        yield client


def exchange(url: str, *data: bytes) -> tuple[int, Any]:
    """What comes back, until the server hangs up: status, and the body as JSON."""
    with connected(url) as client:
        for part in data:
            client.sendall(part)
        said = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    "request_",
    [
        b"NONSENSE\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Request-Id: a\nX-Other: b\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_an_error_like_all_others(server: Server, request_: bytes) -> None:
    status, body = exchange(server.url, request_)
    assert status == 400 and body["error"]["code"] == "invalid_request"


def test_a_head_has_a_limit(server: Server) -> None:
    line = b"X-Long: " + b"a" * 4096 + b"\r\n"
    status, body = exchange(server.url, b"GET /health/live HTTP/1.1\r\n" + HOST, line * (HEAD_LIMIT // len(line) + 1))
    assert status == 431 and body["error"]["details"] == {"limit_bytes": HEAD_LIMIT}


def test_a_body_may_be_longer_than_a_head_and_come_in_pieces(server: Server) -> None:
    text = b'{"model": "nobody", "messages": [{"role": "user", "content": "' + b"a" * (2 * HEAD_LIMIT) + b'"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n"
    status, body = exchange(server.url, head % len(text), text[:10], text[10:])
    assert status == 404 and body["error"]["code"] == "model_not_found"


def test_head_is_answered_like_get_without_the_body(server: Server) -> None:
    for path in ("/health/live", "/v1/models", "/docs"):
        reply = server.http.head(path)
        assert reply.status_code == 200 and reply.content == b"" and int(reply.headers["content-length"]) > 0


async def _never(scope: Any, receive: Any, send: Any) -> None:
    """Waits for the whole body, and answers."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that waits a fifth of a second."""
    import threading

    monkeypatch.setattr(protocol, "PATIENCE_S", 0.2)
    config = uvicorn.Config(_never, port=0, http=Protocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_whoever_does_not_finish_is_told_and_hung_up_on(impatient: str) -> None:
    for part in (b"GET / HTTP/1.1\r\nHost:", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"):
        status, body = exchange(impatient, part)
        assert status == 408 and body["error"]["code"] == "request_timeout"
    with connected(impatient) as client:
        assert client.recv(100) == b""


def test_the_next_head_on_a_connection_is_waited_for_no_longer(impatient: str) -> None:
    whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with connected(impatient) as client:
        for data, said in ((whole, b"200"), (whole, b"200"), (whole[:5], b"408")):
            client.sendall(data)
            assert client.recv(4096).split()[1] == said
