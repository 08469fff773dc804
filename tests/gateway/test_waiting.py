"""A load that waits says for what: in its own stream, in the status of the server, and in `uml ps`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.server import Server, ask, running


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Server]:
    """A server with memory for one model, and two models."""
    with running(tmp_path / "data", memory_budget="60MiB") as server:
        for name in ("alpha", "beta"):
            server.add_model(name)
        yield server


def steps(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    return (json.loads(line[6:]) for line in lines if line.startswith("data: "))


def test_who_waits_is_told_which_model_is_busy_with_its_memory(narrow: Server) -> None:
    narrow.load_fake("alpha", "tokens_per_s=2", ctx=256, parallel=1)
    busy = ask("alpha", max_tokens=200, stream=True)
    fake = {"engine": "fake", "ctx": 256, "parallel": 1}
    with narrow.http.stream("POST", "/v1/chat/completions", json=busy) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        wanted = {"model": "beta", "options": fake, "stream": True}
        with narrow.http.stream("POST", "/v1/models/load", json=wanted) as load:
            events = steps(load.iter_lines())
            first = next(events)
            (place,) = narrow.get("/v1/models/status").json()["queue"]
            reason = "the memory of alpha, which is busy"
            for told in (first, place):
                assert (told["waits_for"], told["held_by"], told["reason"]) == ("memory", ["alpha"], reason)
            assert (first["stage"], first["queue_position"], place["model"]) == ("queued", 1, "beta")
            uml = [sys.executable, "-m", "uml", "ps", "--data", str(narrow.data)]
            assert reason in subprocess.run(uml, capture_output=True, text=True, check=True, timeout=50).stdout
            (later,) = narrow.get("/v1/models/status").json()["queue"]
            assert later["waited_s"] > place["waited_s"], "it goes on waiting, though nothing happens"
            answer.close()
            *_, last = events
    assert (last["model"], last["state"]) == ("beta", "ready"), "alpha was idle, and left"
