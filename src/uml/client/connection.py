"""The connection to a server: requests, streams of events, and every failure as an error of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from uml.client.errors import from_wire
from uml.client.wire import Event, events
from uml.core.errors import BadRequest, ConnectionLost, NoServer

if TYPE_CHECKING:
    import httpx2

_CONNECT_S: Final = 5.0
_LIVE_S: Final = 2.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class Connection:
    """HTTP to the server at an address; opened when it is first needed. See `Client` for the arguments.

    Every method raises NoServer when nothing answers, ConnectionLost for an answer that breaks off or is none of
    ours, else the server's own UmlError.
    """

    def __init__(self, url: str, key: str | None, timeout_s: float) -> None:
        self.url = _address(url)
        self.key = key
        self._timeout_s = timeout_s
        self._opened: httpx2.Client | None = None

    def close(self) -> None:
        """Close it; the next request opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def healthy(self, path: str) -> bool:
        """Whether this path is answered with 200. Raises nothing."""
        import httpx2

        try:
            return self._http.get(path, timeout=_LIVE_S).status_code == 200
        except httpx2.TransportError:
            return False

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, patient: bool = False
    ) -> httpx2.Response:
        """A whole reply. patient: it may take any time."""
        import httpx2

        try:
            timeout = httpx2.Timeout(None if patient else self._timeout_s, connect=_CONNECT_S)
            reply = self._http.request(method, path, json=body, timeout=timeout)
        except httpx2.ReadTimeout as error:
            raise ConnectionLost(self.url, f"{path} gave no answer within {self._timeout_s:g} s") from error
        except httpx2.TransportError as error:
            raise NoServer(self.url) from error
        if reply.status_code >= 300:
            raise from_wire(reply.status_code, _maybe_json(reply))
        return reply

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, patient: bool = False
    ) -> dict[str, Any]:
        """A reply that is a JSON object. patient: it may take any time."""
        found = self.json(self.request(method, path, body, patient=patient))
        if not isinstance(found, dict):
            raise ConnectionLost(self.url, f"{path} gave no JSON object; it may be another program")
        return found

    def json(self, reply: httpx2.Response) -> Any:
        """What a reply holds."""
        try:
            return reply.json()
        except ValueError as error:
            raise ConnectionLost(self.url, f"{reply.url.path} gave no JSON; it may be another program") from error

    @contextmanager
    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[Iterator[Event]]:
        """The events of an answer, for as long as the block goes on; leaving it closes the stream."""
        import httpx2

        timeout = httpx2.Timeout(None, connect=_CONNECT_S)
        begun = False
        try:
            with self._http.stream("POST", path, json=body, timeout=timeout) as reply:
                begun = True
                if reply.status_code >= 300:
                    reply.read()
                    raise from_wire(reply.status_code, _maybe_json(reply))
                yield events(reply.iter_lines())
        except httpx2.TransportError as error:
            if begun:
                raise ConnectionLost(self.url, "the connection ended before the answer did") from error
            raise NoServer(self.url) from error

    def job(self, path: str, body: Mapping[str, Any], what: str) -> Iterator[dict[str, Any]]:
        """The events of a work that ends with `ready`; its error is raised. Closing the iterator cancels it."""
        with self.events(path, body) as found:
            for event in found:
                yield {"event": event.name, **self.value(event)}
                if event.name == "ready":
                    return
        raise ConnectionLost(self.url, f"{what} was neither ready nor refused")

    def value(self, event: Event) -> dict[str, Any]:
        """What an event holds; the error that it tells is raised."""
        try:
            value = event.value
        except ValueError as error:
            raise ConnectionLost(self.url, "an event was not JSON") from error
        if not isinstance(value, dict):
            return {"value": value}
        if event.name == "error" or value.get("error"):
            raise from_wire(500, value)
        return value

    @property
    def _http(self) -> httpx2.Client:
        if self._opened is None:
            # Imported here: most commands never speak to a server, and it takes as long as all the rest.
            import httpx2

            self._opened = httpx2.Client(
                base_url=self.url,
                headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
                # A proxy from the environment must not stand between us and this very machine.
                trust_env=urlsplit(self.url).hostname not in _LOOPBACK,
            )
        return self._opened


def _address(url: str) -> str:
    whole = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(whole)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise BadRequest(f"{url!r} is not the address of a server; expected http://HOST:PORT", param="server")
    return whole


def _maybe_json(reply: httpx2.Response) -> object:
    try:
        return json.loads(reply.content)
    except ValueError:
        return None
