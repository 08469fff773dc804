"""The example plug-in, installed as a package and used through the front door."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.server import Server, events, running, spoken
from tests.plugins.packages import install_example, write_package

TEXT = "the cat sat on the mat . the dog sat on the rug . the cat sat on the mat . " * 3


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = install_example(tmp_path_factory.mktemp("site"))
    # Three that are no good stand beside it, and change nothing.
    write_package(target, "no_import", "import there_is_no_such_module\n")
    return write_package(target, "no_hooks", "x = 1\n")


@pytest.fixture(scope="module")
def server(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installed))
        with running(tmp_path_factory.mktemp("plugged") / "data") as started:
            yield started


@pytest.fixture(scope="module")
def model(server: Server) -> str:
    path = server.data / "story.wordchain"
    path.write_text("wordchain 1\n" + TEXT)
    reply = server.post("/v1/models/add", {"path": str(path)})
    assert reply.status_code == 200, reply.text
    entry = reply.json()
    assert (entry["format"], entry["engine"]) == ("unknown", "wordchain")
    assert entry["reason"].startswith("Word chain runs wordchain on the processor")
    return str(entry["id"])


def complete(server: Server, model: str, **more: Any) -> dict[str, Any]:
    body = {"model": model, "prompt": "the cat", "temperature": 0, "max_tokens": 4, **more}
    reply = server.post("/v1/completions", body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def test_its_engine_answers_over_the_wire(server: Server, model: str) -> None:
    found = complete(server, model)
    assert found["choices"][0]["text"] == " sat on the mat"
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"] == {**found["usage"], "prompt_tokens": 2, "completion_tokens": 4}
    assert server.worker(model)["engine"] == "wordchain"
    assert "warnings" not in found


def test_it_streams_stops_and_repeats_itself(server: Server, model: str) -> None:
    reply = server.chat(model, stream=True, max_tokens=6, seed=7)
    again = server.chat(model, stream=True, max_tokens=6, seed=7)
    assert spoken(events(reply.text)) == spoken(events(again.text)) != ""
    assert events(reply.text)[-1] == "[DONE]"
    assert complete(server, model, stop=" the")["choices"][0]["text"] == " sat on"


def test_what_it_cannot_do_is_said(server: Server, model: str) -> None:
    warned = complete(server, model, min_p=0.1)["warnings"]
    assert warned == [{"param": "min_p", "reason": "the engine wordchain has no such parameter"}]
    matrix = server.get(f"/v1/models/{model}/capabilities").json()
    assert matrix["engine"] == "wordchain" and matrix["parameters"]["temperature"]["can"]
    assert not matrix["parameters"]["min_p"]["can"] and not matrix["abilities"]["json_schema"]["can"]


def test_its_processor_stands_before_and_after(server: Server, model: str) -> None:
    polite = {"metadata": {"polite": True}}
    assert complete(server, model, **polite)["choices"][0]["text"] == " sat on the mat Thank you."
    streamed = server.post(
        "/v1/completions",
        {"model": model, "prompt": "the cat", "max_tokens": 4, "stream": True, **polite},
    )
    pieces = [value["choices"][0]["text"] for value in events(streamed.text) if value != "[DONE]" and value["choices"]]
    assert "".join(pieces) == " sat on the mat Thank you.", "and before() has asked for the likeliest words"
    refused = server.post("/v1/completions", {"model": model, "prompt": "THE CAT", **polite})
    assert refused.status_code == 400
    assert (refused.json()["error"]["message"], refused.json()["error"]["param"]) == ("no need to shout", "prompt")


def test_a_broken_text_is_a_typed_cause(server: Server) -> None:
    path = server.data / "empty.wordchain"
    path.write_text("wordchain 1\n")
    model = server.post("/v1/models/add", {"path": str(path)}).json()["id"]
    reply = server.post("/v1/completions", {"model": model, "prompt": "a"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "corrupt_file")


def test_bad_plugins_are_reported_and_the_server_lives(server: Server) -> None:
    found = {one["name"]: one for one in server.get("/v1/plugins").json()["plugins"]}
    assert found["wordchain"]["state"] == "ready" and found["wordchain"]["version"] == "1.0.0"
    assert found["wordchain"]["adds"]["register_engines"] == ["wordchain"]
    assert found["no_import"]["state"] == "failed" and "ModuleNotFoundError" in found["no_import"]["says"]
    assert found["no_hooks"]["says"].startswith("it has none of the hooks")
    assert server.get("/health/ready").status_code == 200


def test_its_command_is_one_of_uml(installed: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text(TEXT)
    environment = {**os.environ, "PYTHONPATH": str(installed), "UML_DATA": str(tmp_path / "data"), "COLUMNS": "200"}

    def uml(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "uml", *words], env=environment, capture_output=True, text=True, check=False
        )

    made = uml("wordchain", str(text), str(tmp_path / "m.wordchain"))
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "m.wordchain").read_bytes().startswith(b"wordchain 1\n")
    assert "wordchain" in uml("--help").stdout
    listed = uml("plugin", "ls").stdout
    assert "engines: wordchain" in listed and "no_import is left out" in listed
    assert "wordchain" in uml("inspect", str(tmp_path / "m.wordchain")).stdout
    failed = uml("wordchain", str(tmp_path / "none"), str(tmp_path / "x"))
    assert failed.returncode == 6 and "No such file" in failed.stderr
