"""Pieces of files over HTTP: ranges, redirects, proxies, and a limit on all that a stranger could make endless."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urljoin, urlsplit

import httpx2

from uml import __version__
from uml.core.errors import RemoteFailed, RemoteNotFound, RemoteRefused, SetupError, gib
from uml.remote.hub import Hub, origin

_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RAN_OUT: Final = frozenset({401, 403, 404, 410})
"""What a signed address answers when its time is over."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be fetched in all. Seconds; `read_s` is for one piece to arrive, `whole_s` for everything."""

    file_bytes: int = 64 << 20
    total_bytes: int = 512 << 20
    page_bytes: int = 16 << 20
    redirects: int = 5
    connect_s: float = 10.0
    read_s: float = 30.0
    whole_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is asked for. shown: what errors call it; explain: what a status and error code mean there."""

    url: str
    shown: str
    explain: Callable[[int, str], RemoteFailed | None] = field(default=lambda status, code: None, compare=False)


class Broken(RemoteFailed):
    """An answer that ended too early: worth one more try."""


@dataclass(frozen=True, slots=True)
class Part:
    """An answer whose head has come. ranged: it has what was asked for, else all of the file from its first byte on.

    total: bytes of the whole file, where the server says so.
    """

    ranged: bool
    total: int | None
    chunks: Iterator[bytes]


class Web:
    """Asks web servers; may be used from several threads. Closing it ends whatever is under way."""

    def __init__(self, hub: Hub, limits: Limits | None = None) -> None:
        self._hub = hub
        self.limits = limits or Limits()
        self._clients: dict[tuple[bool, bool], httpx2.Client] = {}
        self._located: dict[str, str] = {}
        self._sockets: list[socket.socket] = []
        self._spent = 0
        self._late = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(self.limits.whole_s, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for client in self._clients.values():
            client.close()

    @contextmanager
    def part(self, place: Place, begin: int, count: int) -> Iterator[Part]:
        """Bytes `begin` to `begin + count` of a file; a server without ranges gives all of it.

        Raises RemoteFailed, and inside too, while the chunks are read; Broken where another try may help.
        """
        wanted = {"Range": f"bytes={begin}-{begin + count - 1}"}
        with self._translated(place):
            reply = self._ask(place, wanted)
        try:
            yield self._part(place, reply, begin, count)
        finally:
            reply.close()

    def page(self, place: Place) -> tuple[bytes, str, str]:
        """A whole small answer, the address that it came from, and its `Link` header. Raises RemoteFailed."""
        with self._translated(place):
            reply = self._ask(place, {"Accept": "application/json"})
        try:
            if reply.status_code != 200:
                raise self._refusal(place, reply)
            body = bytearray()
            for chunk in self._chunks(place, reply):
                body += chunk
                if len(body) > self.limits.page_bytes:
                    raise RemoteFailed(place.shown, f"the answer is over the limit of {gib(self.limits.page_bytes)}")
            return bytes(body), str(reply.url), reply.headers.get("link", "")
        finally:
            reply.close()

    def _part(self, place: Place, reply: httpx2.Response, begin: int, count: int) -> Part:
        if reply.status_code == 206:
            found = _RANGE.fullmatch(reply.headers.get("content-range", ""))
            if found is None or int(found[1]) != begin or not begin <= int(found[2]) < begin + count:
                raise RemoteFailed(place.shown, "the server answered with another range than it was asked for")
            total = None if found[3] == "*" else int(found[3])
            return Part(True, total, self._chunks(place, reply))
        if reply.status_code == 416:
            raise RemoteFailed(place.shown, f"the file has no byte {begin}: it is empty, or has changed")
        if reply.status_code != 200:
            raise self._refusal(place, reply)
        length = reply.headers.get("content-length", "")
        return Part(False, int(length) if re.fullmatch(r"\d{1,18}", length) else None, self._chunks(place, reply))

    def _chunks(self, place: Place, reply: httpx2.Response) -> Iterator[bytes]:
        coding = reply.headers.get("content-encoding", "identity")
        if coding != "identity":
            raise RemoteFailed(place.shown, f"the server sends it compressed ({coding[:20]}), which was not asked for")
        with self._translated(place):
            for chunk in reply.iter_raw():
                with self._lock:
                    self._spent += len(chunk)
                    if self._spent > self.limits.total_bytes:
                        raise RemoteFailed(place.shown, f"reading headers took over {gib(self.limits.total_bytes)}")
                yield chunk

    def _ask(self, place: Place, headers: Mapping[str, str]) -> httpx2.Response:
        """An answer that is no redirect; where a file was found is remembered, for the next piece of it."""
        at = self._located.get(place.url, place.url)
        reply = self._follow(place, at, headers)
        if at != place.url and reply.status_code in _RAN_OUT:
            reply.close()
            self._located.pop(place.url, None)
            reply = self._follow(place, place.url, headers)
        return reply

    def _follow(self, place: Place, url: str, headers: Mapping[str, str]) -> httpx2.Response:
        for _ in range(self.limits.redirects + 1):
            reply = self._get(url, headers)
            if reply.status_code not in _REDIRECTS:
                if reply.status_code in (200, 206):
                    self._located[place.url] = url
                return reply
            location = reply.headers.get("location", "")
            reply.close()
            url = redirected(place, url, location)
        raise RemoteFailed(place.shown, f"the server redirects more than {self.limits.redirects} times")

    def _get(self, url: str, headers: Mapping[str, str]) -> httpx2.Response:
        if self._late:
            raise TimeoutError
        client = self._client(url)
        # A cookie that one host sets is no business of the next request.
        client.cookies.clear()
        # The token is for the hub alone: not for the stores that it redirects to, nor for any other server.
        secret = {"Authorization": f"Bearer {self._hub.token}"} if self._hub.token and self._hub.is_at(url) else {}
        request = client.build_request("GET", url, headers={**headers, **secret}, extensions={"trace": self._saw})
        return client.send(request, stream=True)

    def _client(self, url: str) -> httpx2.Client:
        # A proxy from the environment must not stand between us and this very machine.
        parts = urlsplit(url)
        kind = is_private(parts.hostname or "", loopback=True), parts.scheme == "https"
        with self._lock:
            if kind not in self._clients:
                self._clients[kind] = self._opened(*kind)
            return self._clients[kind]

    def _opened(self, direct: bool, secure: bool) -> httpx2.Client:
        try:
            return httpx2.Client(
                headers={"User-Agent": f"universal-model-loader/{__version__}", "Accept-Encoding": "identity"},
                timeout=httpx2.Timeout(self.limits.read_s, connect=self.limits.connect_s),
                trust_env=not direct,
                # Without TLS no certificate is needed: reading them all takes a tenth of a second.
                verify=True if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            )
        except ImportError as error:
            raise SetupError("a SOCKS proxy is set; it needs the package socksio: pip install socksio") from error
        except (ValueError, httpx2.InvalidURL) as error:
            # Not quoted: the address of a proxy may have a password in it.
            raise SetupError("the proxy in the environment (HTTPS_PROXY, HTTP_PROXY) has no valid address") from error

    def _saw(self, name: str, about: Mapping[str, Any]) -> None:
        """Every connection as it is made, so that it can be ended from outside."""
        if name.endswith(("connect_tcp.complete", "start_tls.complete")):
            made = about["return_value"].get_extra_info("socket")
            if isinstance(made, socket.socket):
                self._sockets.append(made)

    def _end(self) -> None:
        """The time is over. A read timeout alone never ends a server that sends a byte now and then."""
        self._late = True
        for one in self._sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended on its own

    @contextmanager
    def _translated(self, place: Place) -> Iterator[None]:
        try:
            yield
        except (httpx2.TransportError, httpx2.InvalidURL, OSError) as error:
            if self._late:
                reason = f"it took longer than {self.limits.whole_s:g} s"
                raise RemoteFailed(place.shown, reason) from error
            raise _said(place, error, self.limits) from error

    def _refusal(self, place: Place, reply: httpx2.Response) -> RemoteFailed:
        status = reply.status_code
        if known := place.explain(status, reply.headers.get("x-error-code", "")):
            return known
        match status:
            case 401 | 403:
                return RemoteRefused(place.shown, f"the server does not give it to everybody (status {status})")
            case 404 | 410:
                return RemoteNotFound(place.shown, f"there is nothing at this address (status {status})")
            case 429:
                wait = reply.headers.get("retry-after", "")
                when = f"; try again in {wait} s" if re.fullmatch(r"\d{1,6}", wait) else "; try again later"
                return RemoteFailed(place.shown, f"the server was asked too often{when}")
        return RemoteFailed(place.shown, f"the server answered with status {status}")


def _said(place: Place, error: Exception, limits: Limits) -> RemoteFailed:
    """A foreign error as a sentence. Only texts of the operating system are quoted: headers are not for errors."""
    host = urlsplit(place.url).hostname
    match error:
        case httpx2.ConnectTimeout():
            return RemoteFailed(place.shown, f"{host} did not answer within {limits.connect_s:g} s")
        case httpx2.TimeoutException():
            return RemoteFailed(place.shown, f"nothing came for {limits.read_s:g} s")
        case httpx2.ProxyError():
            return RemoteFailed(place.shown, "the proxy in the environment refused to connect")
        case httpx2.ConnectError():
            return RemoteFailed(place.shown, f"{host} cannot be reached: {error}")
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return RemoteFailed(place.shown, "the address, or one that it redirects to, cannot be used")
    return Broken(place.shown, "the connection ended before the answer did")


def redirected(place: Place, url: str, location: str) -> str:
    """Where a redirect leads. Raises RemoteFailed for a place with which a public server has no business."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        good = bool(location) and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = None
    if not good:
        raise RemoteFailed(place.shown, "the server redirects to something that is no address")
    host = parts.hostname or ""
    if origin(url)[0] == "https" and parts.scheme == "http":
        raise RemoteFailed(place.shown, f"the server redirects to {host} without encryption")
    if is_private(host) and not is_private(urlsplit(url).hostname or ""):
        raise RemoteFailed(place.shown, f"the server redirects to {host}, an address of this network")
    return target


def is_private(host: str, loopback: bool = False) -> bool:
    """Whether a host is told by its name or number to be this machine or, unless only `loopback`, in this network."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or (not loopback and not address.is_global)
