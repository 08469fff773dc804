"""A hub: where it is, who asks, and which files a repository has. The wire is that of Hugging Face."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from uml.core.errors import BadFile, BadSetting, RemoteFailed, RemoteNotFound, RemoteRefused
from uml.core.quote import quoted
from uml.formats.bounded_json import parse
from uml.remote.names import HUGGING_FACE, HubName, is_inside

MAX_FILES: Final = 20_000
"""Files of one repository; a page of the listing has 1,000."""
_YES: Final = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Hub:
    """Where the hub is and who asks it.

    token: sent to that very address and to nobody else, also when it redirects.
    offline: why nothing may be asked; empty where it may.
    """

    endpoint: str = HUGGING_FACE
    token: str | None = field(default=None, repr=False)
    offline: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str] | None = None, offline: bool = False) -> Hub:
        """HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE, as other programs read them. Raises BadSetting."""
        environ = os.environ if environ is None else environ
        endpoint = environ.get("HF_ENDPOINT", "").strip().rstrip("/") or HUGGING_FACE
        try:
            parts = urlsplit(endpoint)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and endpoint.isprintable()
        except ValueError:
            good = None
        if not good:
            raise BadSetting(f"HF_ENDPOINT is {quoted(endpoint)}; expected the address of a hub, https://HOST")
        token = environ.get("HF_TOKEN", "").strip() or None
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            # Not shown, here or anywhere: it is a secret all the same.
            raise BadSetting("HF_TOKEN is not valid; expected printable ASCII without spaces")
        why = "the setting offline is on" if offline else ""
        if not why and environ.get("HF_HUB_OFFLINE", "").strip().lower() in _YES:
            why = "HF_HUB_OFFLINE is set"
        return cls(endpoint, token, why)

    def is_at(self, url: str) -> bool:
        """Whether a URL is this hub's: same scheme, host and port."""
        return origin(url) == origin(self.endpoint)

    def file(self, name: HubName, path: str) -> str:
        """The URL of a file of a repository."""
        return f"{self.endpoint}/{name.repository}/resolve/{quote(name.revision, safe='')}/{quote(path)}"

    def tree(self, name: HubName) -> str:
        """The URL of the list of its files."""
        revision = quote(name.revision, safe="")
        return f"{self.endpoint}/api/models/{name.repository}/tree/{revision}?recursive=true"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a repository, and its bytes as the hub tells them."""

    path: str
    size: int


def listed(name: HubName, page: bytes) -> Iterator[Listed]:
    """The files of one page of a listing; what no file of ours could be called is left out.

    Raises RemoteFailed where it is no listing.
    """
    for entry in _array(name, page):
        path, size = entry.get("path"), entry.get("size")
        if entry.get("type") != "file" or not isinstance(path, str) or not is_inside(path):
            continue
        if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 62:
            yield Listed(path, size)


def _array(name: HubName, page: bytes) -> list[dict[str, Any]]:
    try:
        found = parse(Path("tree"), page)
    except BadFile as error:
        raise RemoteFailed(name.shown, "the hub's list of files is not JSON; is HF_ENDPOINT a hub?") from error
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise RemoteFailed(name.shown, "the hub's list of files is none; is HF_ENDPOINT a hub?")
    return found


def next_page(hub: Hub, url: str, link: str) -> str | None:
    """The URL that a `Link` header names as next; None where it names none, or one of another host."""
    for part in link.split(","):
        target, _, about = part.strip().partition(">")
        if target.startswith("<") and 'rel="next"' in about.replace("'", '"'):
            found = urljoin(url, target[1:])
            return found if hub.is_at(found) else None
    return None


def denied(name: HubName, hub: Hub, status: int, code: str) -> RemoteFailed | None:
    """What a hub means by a status and its `X-Error-Code`; None for what any web server may mean by it."""
    if code == "GatedRepo":
        page = f"{hub.endpoint}/{name.repository}"
        needs = "with the account of HF_TOKEN" if hub.token else "and set HF_TOKEN"
        return RemoteRefused(name.shown, f"is gated; accept its terms at {page} {needs}")
    if code == "RevisionNotFound":
        return RemoteNotFound(name.shown, f"the repository has no revision {quoted(name.revision)}")
    if code == "EntryNotFound":
        return RemoteNotFound(name.shown, "the repository has no such file")
    # Without a token the hub says 401 of what is not there, so that nobody learns of what is private.
    if code == "RepoNotFound" or status in (401, 404):
        if hub.token:
            return RemoteNotFound(name.shown, "there is no such repository, or none that HF_TOKEN opens")
        return RemoteNotFound(name.shown, "there is no such repository; if it is private, set HF_TOKEN")
    return None
