"""What every engine promises through the server: it is heard, what it cannot do is told, and its memory comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engines import contract
from tests.engines.contract import PROMPTS, READY_S, SUBJECTS, Subject
from tests.gateway.server import Server, eventually, running
from tests.worker.process import SERVER

# For a machine that does much else besides: a worker of Transformers imports PyTorch first.
pytestmark = pytest.mark.timeout(400)
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


def loaded(server: Server, subject: Subject, model: str) -> Any:
    options = {"ctx": 512, "parallel": 2, "threads": 1, "engine": subject.make().spec.name, **subject.options}
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
    lacking = server.post("/v1/completions", {**asked, "guidance_scale": 1.5}).json()
    assert lacking["choices"][0]["text"] == plain["choices"][0]["text"]
    assert "guidance_scale" in {warning["param"] for warning in lacking["warnings"]}
    strict = server.post("/v1/completions", {**asked, "guidance_scale": 1.5, "strict": True})
    assert (strict.status_code, strict.json()["error"]["code"]) == (400, "unsupported_parameter")

    worker = psutil.Process(server.worker(model)["pid"])
    held = [worker, *worker.children(recursive=True)]
    assert sum(process.memory_info().rss for process in held) > 8 << 20
    assert server.post("/v1/models/unload", {"model": model}).status_code == 200
    eventually(lambda: not any(process.is_running() for process in held), 30)
    assert not server.worker(model)


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
