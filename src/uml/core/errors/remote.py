"""What is on the net was not given, or must not be asked for."""

from __future__ import annotations

from typing import Any

from uml.core.errors.root import UmlError


class RemoteFailed(UmlError):
    """A hub or a web server, asked for the header of a model, did not give it. `source` is what the user named."""

    code, status = "remote_failed", 502

    def __init__(self, source: str, reason: str, **details: Any) -> None:
        super().__init__(f"{source}: {reason}", source=source, **details)


class RemoteNotFound(RemoteFailed):
    """There is no such repository or file, as far as this user may see."""

    code, status = "remote_not_found", 404


class RemoteRefused(RemoteFailed):
    """The repository or file is there, and this user may not read it."""

    code, status = "remote_refused", 403


class Offline(UmlError):
    """A name on the net, while nothing may leave this machine."""

    code, status = "offline", 403

    def __init__(self, source: str, why: str) -> None:
        super().__init__(f"{source} is on the net, and {why}; nothing was asked of it", source=source)
