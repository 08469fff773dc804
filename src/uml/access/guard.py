"""Which requests are let in: pure decisions on Host, Origin and key.

A page in a browser on this machine can send requests here. Its Origin header tells it from a
program, and is checked; a name that was pointed at this address (DNS rebinding) shows in the Host
header, and is checked too. A numeric address there cannot have been rebound.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from uml.core.errors import BadKey, BadSetting, NotAllowed
from uml.core.quote import quoted

OPEN_PATHS = frozenset({"/health/live"})
"""Answered without a key: whoever starts the server must be able to see that it lives."""

_REMEMBERED = 256


def check_bind(host: str, key: str | None) -> None:
    """Refuse to open the server to other machines without a key. Raises BadSetting."""
    if not key and not is_loopback(host):
        raise BadSetting(
            f"host is {quoted(host)}, which opens this server to other machines, and it has no key; set one with "
            "UML_API_KEY or --api-key, or leave host at 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host.lower() == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


class Guard:
    """Decides on requests to a server bound to `host`.

    hosts: further names in the Host header; `*` for any.
    origins: pages (`https://example.org`) that may call from a browser; `*` for any. Pages of this
        server itself always may.
    """

    def __init__(
        self, host: str, key: str | None = None, hosts: Iterable[str] = (), origins: Iterable[str] = ()
    ) -> None:
        self._key = key.encode() if key else None
        self._hosts = frozenset(name.lower() for name in (*hosts, host, "localhost"))
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._decided: dict[tuple[bytes, bytes], bool] = {}

    def check(self, path: str, host: bytes, origin: bytes, authorization: bytes, api_key: bytes) -> None:
        """Let a request in, or raise NotAllowed or BadKey. Headers are empty where the request has none.

        authorization: `Bearer KEY`; api_key: the header `x-api-key`.
        """
        if (host, origin) not in self._decided:
            self._check_source(host, origin)
            if len(self._decided) >= _REMEMBERED:
                self._decided.clear()
            self._decided[host, origin] = True
        if self._key is not None and path not in OPEN_PATHS:
            self._check_key(authorization, api_key)

    def allows_origin(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may call a server that it knows as `host`."""
        origin = origin.lower()
        if "*" in self._origins or origin in self._origins:
            return True
        return origin in (f"http://{host.lower()}", f"https://{host.lower()}")

    def _check_source(self, host: bytes, origin: bytes) -> None:
        name = host.decode("latin-1")
        if not self._knows_host(name):
            raise NotAllowed(
                f"the Host header is {name!r}, which is no name of this server; allow it with the setting allowed_hosts"
            )
        page = origin.decode("latin-1")
        if page and not self.allows_origin(page, name):
            raise NotAllowed(
                f"pages of {page} may not call this server; allow them with the setting allowed_origins", origin=page
            )

    def _knows_host(self, header: str) -> bool:
        if "*" in self._hosts:
            return True
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or _address(name) is not None

    def _check_key(self, authorization: bytes, api_key: bytes) -> None:
        given = api_key
        if authorization[:7].lower() == b"bearer ":
            given = authorization[7:].strip()
        if self._key is None or not hmac.compare_digest(given, self._key):
            said = "the API key is not known here" if given else "this server needs an API key"
            raise BadKey(f"{said}; send it as `Authorization: Bearer KEY`")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
