"""The server of this user, where one runs: it leaves its address in the data folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from uml.client.client import Client
from uml.core.errors import BadRequest


@dataclass(frozen=True, slots=True)
class ServerFile:
    """What `server.json` says of a running server: address, process, key (None: it takes any request)."""

    url: str
    pid: int
    key: str | None = None


def read_server_file(data_folder: Path) -> ServerFile | None:
    """What the last server of this data folder said of itself; it may be gone. None where nothing can be read."""
    try:
        content = json.loads((data_folder / "server.json").read_text("utf-8"))
        key = content.get("key")
        return ServerFile(str(content["url"]), int(content["pid"]), str(key) if key else None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no server, or one that is just writing the file


def find_server(data_folder: Path) -> Client | None:
    """A client of the server that runs on this data folder; None where none answers."""
    said = read_server_file(data_folder)
    if said is None:
        return None
    try:
        client = Client(said.url, said.key)
    except BadRequest:
        return None
    if client.live():
        return client
    client.close()
    return None
