from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.gateway.server import Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests; what a test loads it unloads."""
    with running(tmp_path_factory.mktemp("gateway") / "data") as started:
        started.add_model("alpha")
        yield started


@pytest.fixture
def fake(server: Server) -> Iterator[Callable[..., str]]:
    """Load the model `alpha` with the engine that invents tokens, and these flags; gives its id."""

    def load(*flags: str, **options: Any) -> str:
        server.load_fake("alpha", *flags, **options)
        return "alpha"

    yield load
    server.post("/v1/models/unload", {"model": "alpha"})
