"""What holds for tests of workers."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _memory_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts for the whole machine: who runs out of memory in a test beside this one is not its worker."""
    if "cramped" not in request.fixturenames:
        monkeypatch.setattr("uml.runtime.workers.process.oom_kills", lambda: 0)
