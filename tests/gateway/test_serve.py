"""Starting, being the only one, being found, letting in, and leaving."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.gateway.server import ask, events, launch, refused, running
from tests.waiting import PATIENCE_S, eventually


def test_the_server_says_where_it_is_and_leaves_no_trace(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(folder, api_key="secret") as server:
        told = json.loads((folder / "server.json").read_text())
        assert told["url"] == server.url and told["pid"] == server.process.pid and told["key"] == "secret"
        assert stat.S_IMODE((folder / "server.json").stat().st_mode) == 0o600
        second = refused(folder)
        assert second["code"] == "already_running" and server.url in second["message"]
        assert json.loads((folder / "server.json").read_text()) == told
    assert not (folder / "server.json").exists()
    assert server.process.returncode == 0


def test_a_model_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    with running(tmp_path / "data", model_folders=[str(absent)]) as server:
        eventually(lambda: f"the model folder {absent} is not there" in server.stderr())


def test_a_taken_port_is_named_with_its_owner(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        error = refused(tmp_path / "data", port=port)
    assert error["code"] == "port_taken"
    assert str(port) in error["message"]


def test_other_machines_need_a_key(tmp_path: Path) -> None:
    error = refused(tmp_path / "a", host="0.0.0.0")
    assert error["code"] == "bad_setting" and "UML_API_KEY" in error["message"]
    with running(tmp_path / "b", host="0.0.0.0", api_key="secret") as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.get("/version").status_code == 200


def test_an_address_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "data", host="192.0.2.1", api_key="secret")
    assert error["code"] == "bad_setting" and "192.0.2.1" in error["message"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    process_folder = tmp_path / "ok"
    error = refused(process_folder, data=str(blocked / "data"))
    assert error["code"] == "folder_not_writable" and str(blocked) in error["message"]


def test_keys_hosts_and_origins(tmp_path: Path) -> None:
    flags = {"api_key": "secret", "allowed_hosts": ["box.lan"], "allowed_origins": ["https://app.example"]}
    with running(tmp_path / "data", **flags) as server:
        plain = httpx2.Client(base_url=server.url, trust_env=False)
        with plain:
            missing = plain.get("/v1/models")
            assert (missing.status_code, missing.json()["error"]["code"]) == (401, "invalid_api_key")
            assert plain.post("/v1/chat/completions", json=ask("demo")).status_code == 401
            assert plain.get("/health/live").status_code == 200
            assert plain.get("/v1/models", headers={"x-api-key": "secret"}).status_code == 200
            assert plain.get("/v1/models", headers={"authorization": "Bearer wrong"}).status_code == 401
        for host, status in (("localhost", 200), ("127.0.0.1:99", 200), ("box.lan", 200), ("evil.example", 403)):
            assert server.http.get("/v1/models", headers={"host": host}).status_code == status, host
        page = server.http.get("/v1/models", headers={"origin": "https://app.example"})
        assert page.headers["access-control-allow-origin"] == "https://app.example"
        own = server.http.get("/v1/models", headers={"origin": server.url})
        assert own.status_code == 200
        foreign = server.http.post("/v1/models/unload", json={"all": True}, headers={"origin": "https://evil.example"})
        assert (foreign.status_code, "access-control-allow-origin" in foreign.headers) == (403, False)
        asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
        with httpx2.Client(base_url=server.url, trust_env=False) as http:
            preflight = http.options("/v1/chat/completions", headers=asked)
            assert preflight.status_code == 204
            assert "authorization" in preflight.headers["access-control-allow-headers"]
            asked["origin"] = "https://evil.example"
            assert http.options("/v1/chat/completions", headers=asked).status_code == 403


def test_it_stops_soon_and_takes_its_workers_along(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        server.load_fake(server.add_model("alpha"), "tokens_per_s=5")
        worker = psutil.Process(server.worker("alpha")["pid"])
        body = ask("alpha", stream=True, max_tokens=1000)
        with server.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            pieces = reply.iter_text()
            text = next(pieces)
            server.process.terminate()
            text += "".join(pieces)
        assert events(text)[-1]["error"]["code"] == "overloaded"
        server.process.wait(PATIENCE_S)
        assert server.process.returncode == 0
        eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
        assert "Traceback" not in server.stderr()


def test_it_stops_while_it_loads(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        model = server.add_model("alpha")
        body = {"model": model, "options": {"engine": "fake", "extra_flags": ["hang_on_load=1"]}, "stream": True}
        with server.http.stream("POST", "/v1/models/load", json=body) as reply:
            next(reply.iter_text())
            server.process.terminate()
            server.process.wait(PATIENCE_S)
        assert "Traceback" not in server.stderr()


def test_a_server_that_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    process = launch(folder)
    eventually(lambda: (folder / "server.json").exists())
    process.kill()
    process.wait()
    assert (folder / "server.json").exists()
    (folder / "server.json").unlink()
    with running(folder) as server:
        assert server.get("/health/live").status_code == 200


def test_models_in_the_folders_of_the_settings_are_found(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    from uml.registry import packaged_model

    (models / "mine.gguf").write_bytes(packaged_model().read_bytes())
    with running(tmp_path / "data", model_folders=[str(models)]) as server:
        eventually(lambda: server.get("/v1/models/mine").status_code == 200)


@pytest.mark.skipif(os.getuid() == 0, reason="root may bind to any port")
def test_a_port_of_the_systems_own_is_explained(tmp_path: Path) -> None:
    assert "1024" in refused(tmp_path / "data", port=80)["message"]
