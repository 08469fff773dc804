"""What a command has to work with: the common flags, settings, the library, the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from uml.client.client import Client
from uml.client.find import find_server
from uml.core.errors import BadRequest, NoServer

if TYPE_CHECKING:
    from uml.config import Settings
    from uml.house import Library


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags that every command takes.

    server: address of a server to use; None: the one of this data folder, where it runs.
    """

    json: bool = False
    debug: bool = False
    data: Path | None = None
    server: str | None = None
    api_key: str | None = None


class Session:
    """One run of one command. Everything is opened when it is first asked for."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags

    def settings_with(self, **flags: object) -> Settings:
        """Settings with more flags than the common ones. Raises SetupError."""
        from uml.config import Settings

        return Settings.load({"data": self.flags.data, "api_key": self.flags.api_key, **flags})

    @cached_property
    def settings(self) -> Settings:
        """This user's settings."""
        return self.settings_with()

    @contextmanager
    def library(self) -> Iterator[Library]:
        """The library, for what needs no server. Raises FolderNotWritable."""
        # Imported here: the registry, the formats and the engines come with it.
        from uml.house import Library

        library = Library.open(self.settings)
        try:
            yield library
        finally:
            library.registry.close()

    def find_client(self) -> Client | None:
        """A client of the server that runs; None where none does. A server that was asked for by name must run."""
        if self.flags.server is None:
            return find_server(self.settings.data)
        try:
            client = Client(self.flags.server, self.settings.api_key)
        except BadRequest as error:
            raise typer.BadParameter(f"--server: {error.message}") from error
        if not client.live():
            client.close()
            raise NoServer(client.url)
        return client

    def client(self) -> Client:
        """A client of the server that runs. Raises NoServer."""
        client = self.find_client()
        if client is None:
            raise NoServer
        return client
