"""`/v1/engines` of a real server, whose pip reads a folder of empty wheels with the real names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import hf_tensors, llama_config, write_hf_folder
from tests.gateway.server import Server, running
from tests.installed import without_transformers
from tests.runtime.installs.wheels import offers, stand_ins
from tests.waiting import eventually
from uml.cli.main import main
from uml.client.client import Client
from uml.core.errors import InstallFailed, InstallNotFound, InstallRefused
from uml.engines.recipes import RECIPES


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the wheels of one engine at hand, and those of another in two versions."""
    folder = tmp_path_factory.mktemp("engines")
    wheels = stand_ins(folder / "wheels", RECIPES["onnx-builder"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in offers(wheels, os.environ).items():
            patch.setenv(name, value)
        with running(folder / "data") as server:
            yield server


def test_an_engine_is_installed_over_the_wire_chosen_and_removed(shop: Server) -> None:
    with Client(shop.url) as client:
        assert _engine(client, "onnx-builder")["in_use"] is None
        events = list(client.install_engine("onnx-builder"))
        assert [event["event"] for event in events[-2:]] == ["progress", "ready"]
        assert events[-1]["name"] == "onnx-builder==0.18.0"
        assert _engine(client, "onnx-builder")["in_use"] == "0.18.0"
        assert client.use_engine("onnx-builder==0.18.0")["in_use"] is True
        assert client.test_engine("onnx-builder")["smoke"] == "not run"
        with pytest.raises(InstallNotFound, match=r"there are onnx-builder==0\.18\.0"):
            client.remove_engine("onnx-builder==9")
        assert client.remove_engine("onnx-builder==0.18.0") | {"freed_bytes": 0} == {
            "removed": "onnx-builder==0.18.0",
            "freed_bytes": 0,
            "pinned_by": [],
            "in_use": None,
        }
        assert _engine(client, "onnx-builder")["in_use"] is None


def _engine(client: Client, name: str) -> dict[str, object]:
    return next(one for one in client.engines() if one["name"] == name)


def test_without_a_stream_the_answer_is_the_install_or_its_error(shop: Server) -> None:
    reply = shop.post("/v1/engines/install", {"engine": "onnx-builder"})
    assert (reply.status_code, reply.json()["name"]) == (200, "onnx-builder==0.18.0")
    reply = shop.post("/v1/engines/install", {"engine": "onnx-builder"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "install_refused")
    assert shop.http.delete("/v1/engines/onnx-builder/0.18.0").status_code == 200
    reply = shop.post("/v1/engines/install", {"engine": "onnx-builder==0.1"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "install_failed")
    with Client(shop.url) as client, pytest.raises(InstallFailed, match=r"there is no onnxruntime-genai==0\.1"):
        list(client.install_engine("onnx-builder==0.1"))
    assert list((shop.data / "engines" / "onnx-builder").glob(".*")) == []


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("install", {"engine": "vllm"}, 409, "install_refused"),
        ("install", {"engine": "onnx-builder==../x"}, 400, "invalid_request"),
        ("install", {"engine": "onnx-builder", "index": "http://x"}, 400, "unknown_field"),
        ("install", {"engine": "onnx-builder", "installer": "npm"}, 400, "invalid_request"),
        ("use", {"engine": "transformers==1"}, 404, "install_not_found"),
        ("test", {"engine": "nobody"}, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_is_refused(shop: Server, path: str, body: dict[str, object], status: int, code: str) -> None:
    reply = shop.post(f"/v1/engines/{path}", body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_a_client_that_leaves_stops_the_install(shop: Server) -> None:
    root = shop.data / "engines" / "onnx-builder"
    with Client(shop.url) as client:
        events = client.install_engine("onnx-builder", again=True)
        assert next(events)["stage"] == "environment"
        assert len(list(root.glob(".making-*"))) == 1
        events.close()  # type: ignore[attr-defined]  # it is a generator
    eventually(lambda: not list(root.glob(".making-*")))
    assert shop.get("/v1/engines").status_code == 200


@without_transformers
def test_a_model_whose_engine_is_missing_says_how_to_get_it(shop: Server, tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path / "small", llama_config(), hf_tensors())
    for body in ({"model": str(folder)}, {"model": str(folder), "options": {"engine": "transformers==4.0"}}):
        reply = shop.post("/v1/models/load", body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "engine_not_installed")
        assert "uml engine install transformers" in reply.json()["error"]["message"]


def test_the_command_line_speaks_to_the_server_that_is_named(shop: Server, capsys: pytest.CaptureFixture[str]) -> None:
    def uml(*words: str) -> str:
        code = main(["engine", *words, "--server", shop.url])
        assert code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert uml("install", "onnx-builder", "--again").startswith("onnx-builder==0.18.0 is installed")
    assert "onnx-builder " in uml("ls")
    assert uml("use", "onnx-builder==0.18.0") == "onnx-builder==0.18.0 is in use from the next load on\n"
    assert uml("test", "onnx-builder").startswith("onnx-builder==0.18.0: not run, ")
    while len(_installs(shop)) > 1:
        name = _installs(shop)[-1]
        assert uml("rm", name).startswith(f"{name} is removed, ")
    (last,) = _installs(shop)
    assert uml("rm", "onnx-builder").startswith(f"{last} is removed, ")


def _installs(shop: Server) -> list[str]:
    (found,) = [one for one in shop.get("/v1/engines").json()["data"] if one["name"] == "onnx-builder"]
    return [str(install["name"]) for install in found["installs"]]


def test_a_build_is_refused_where_its_tools_are_missing_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with running(tmp_path / "data") as server:
        reply = server.post("/v1/engines/build", {})
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "install_refused")
        assert "to build llama.cpp this machine lacks" in reply.json()["error"]["message"]
        assert "event: error" in server.post("/v1/engines/build", {"stream": True}).text
        assert server.post("/v1/engines/build", {"engine": "vllm"}).status_code == 400
        with Client(server.url) as client, pytest.raises(InstallRefused, match="this machine lacks"):
            list(client.build_engine())
        assert main(["engine", "build", "llamacpp", "--server", server.url]) != 0
        assert "this machine lacks" in capsys.readouterr().err
