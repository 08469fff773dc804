"""What every engine promises through the server: it is heard, what it cannot do is told, and its memory comes back."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engines import contract
from tests.engines.contract import CONTEXT, PROMPTS, READY_S, SUBJECTS, Subject
from tests.gateway.server import Server, running
from tests.waiting import eventually
from tests.worker.process import SERVER

# For a machine that does much else besides: a worker of Transformers imports PyTorch first.
pytestmark = pytest.mark.timeout(400)
SHARED = Path("/dev/shm")
SPOILED = {"bad_file", "corrupt_file", "missing_shard", "unsupported_format"}


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return contract.subject_of(request.param)


@pytest.fixture
def server(subject: Subject, tmp_path: Path) -> Iterator[Server]:
    """A server with a data folder of its own, and the engines that were installed for the tests."""
    data = tmp_path / "data"
    data.mkdir()
    if contract.DATA:
        (data / "engines").symlink_to(contract.INSTALLS.folder.absolute())
    with running(data, **({"llama_server": SERVER} if subject.name == "llama-server" else {})) as started:
        started.http.timeout = READY_S
        yield started


def added(server: Server, path: Path) -> str:
    reply = server.post("/v1/models/add", {"path": str(path)})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def loaded(server: Server, subject: Subject, model: str, **more: Any) -> Any:
    options = {"ctx": 512, "parallel": 2, "threads": 1, "engine": subject.make().spec.name, **subject.options, **more}
    return server.post("/v1/models/load", {"model": model, "options": options})


def test_it_answers_tells_what_it_cannot_do_and_gives_its_memory_back(
    subject: Subject, server: Server, tmp_path: Path
) -> None:
    model = added(server, subject.model(tmp_path))
    reply = loaded(server, subject, model)
    assert reply.status_code == 200, reply.text

    asked: dict[str, Any] = {"model": model, "prompt": PROMPTS[0], "max_tokens": 8, "temperature": 0}
    plain = server.post("/v1/completions", asked).json()
    assert plain["choices"][0]["text"]
    lacking = server.post("/v1/completions", {**asked, "penalty_alpha": 0.6}).json()
    assert lacking["choices"][0]["text"] == plain["choices"][0]["text"]
    assert "penalty_alpha" in {warning["param"] for warning in lacking["warnings"]}
    strict = server.post("/v1/completions", {**asked, "penalty_alpha": 0.6, "strict": True})
    assert (strict.status_code, strict.json()["error"]["code"]) == (400, "unsupported_parameter")

    worker = psutil.Process(server.worker(model)["pid"])
    held = [worker, *worker.children(recursive=True)]
    assert server.post("/v1/models/unload", {"model": model}).status_code == 200
    eventually(lambda: not any(process.is_running() for process in held))
    assert not server.worker(model)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's kernel counts shared pages by their share")
def test_what_a_model_takes_comes_back_to_the_byte_but_for_a_few(
    subject: Subject, server: Server, tmp_path: Path
) -> None:
    """Bytes of the server with all that it started, shared pages counted once for each; and none left in /dev/shm."""
    model = added(server, subject.model(tmp_path))
    asked = {"model": model, "prompt": PROMPTS[0], "max_tokens": 8}

    def round_trip() -> int:
        assert loaded(server, subject, model).status_code == 200
        assert server.post("/v1/completions", asked).status_code == 200
        taken = _taken(server)
        assert server.post("/v1/models/unload", {"model": model}).status_code == 200
        eventually(lambda: not server.worker(model))
        return taken

    round_trip()  # what the server itself learns and keeps at the first one is no model's
    segments, before = {*SHARED.iterdir()}, _taken(server)
    during = round_trip()
    eventually(lambda: len(psutil.Process(server.process.pid).children(recursive=True)) == 0)
    kept = _taken(server) - before
    assert during - before > 8 << 20, "a worker takes memory"
    assert kept < min(8 << 20, (during - before) // 5), (before, during, kept)
    assert {*SHARED.iterdir()} <= segments


def _taken(server: Server) -> int:
    """Bytes of the server's process and of all below it, by the share of the kernel's count that is their own."""
    own = psutil.Process(server.process.pid)
    return sum(process.memory_full_info().pss for process in [own, *own.children(recursive=True)])


def test_who_leaves_the_queue_is_gone_at_once(subject: Subject, server: Server, tmp_path: Path) -> None:
    """Requests wait in the server and not in the engine, so that what an engine is slow to notice does not matter."""
    model = added(server, subject.model(tmp_path))
    assert loaded(server, subject, model, ctx=CONTEXT, parallel=1).status_code == 200
    body = {"model": model, "prompt": PROMPTS[0], "max_tokens": CONTEXT - 100, "ignore_eos": True, "stream": True}

    def ask() -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=READY_S)
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        return connection

    def queued() -> int:
        return len(server.get("/v1/models/status").json()["queue"])

    taken: list[float] = []
    while not taken or (min(taken) > contract.AT_ONCE_S and len(taken) < 6):
        answered, waiting = ask(), [ask() for _ in range(3)]
        eventually(lambda: queued() == 3)
        begin = time.monotonic()
        for connection in waiting:
            connection.close()
        eventually(lambda: queued() == 0)
        taken.append(time.monotonic() - begin)
        answered.close()
        eventually(lambda: not server.worker(model)["in_flight"])
    assert min(taken) <= contract.AT_ONCE_S, taken


@pytest.mark.parametrize("how", ["garbage", "truncated"])
def test_a_spoiled_file_is_named_and_the_next_model_loads(
    subject: Subject, server: Server, how: str, tmp_path: Path
) -> None:
    if not subject.real:
        pytest.skip("it reads no file")
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    good, bad = subject.model(tmp_path / "good"), subject.model(tmp_path / "bad")
    file = subject.damage(bad, how)
    reply = server.post("/v1/models/add", {"path": str(bad)})
    if reply.status_code == 200:
        reply = loaded(server, subject, str(reply.json()["id"]))
    error = reply.json()["error"]
    assert (reply.status_code, error["code"] in SPOILED) == (422, True), error
    assert file.name in error["message"] or str(bad) in error["message"]
    assert loaded(server, subject, added(server, good)).status_code == 200
