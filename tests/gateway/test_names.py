"""Names given and taken back, and models forgotten, over the wire and by a command that finds the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.gateway.server import Server
from uml.client.client import Client


def test_a_name_is_good_at_once_and_gone_at_once(server: Server) -> None:
    named = server.post("/v1/models/alias", {"model": "alpha", "alias": "first/letter"}).json()
    assert named["id"] == "alpha" and "first/letter" in named["aliases"]
    assert server.get("/v1/models/first/letter").json()["id"] == "alpha"
    assert server.post("/v1/models/unalias", {"alias": "first/letter"}).json() == {"alias": "first/letter"}
    assert server.get("/v1/models/first/letter").status_code == 404
    assert server.post("/v1/models/unalias", {"alias": "first/letter"}).json()["error"]["code"] == "model_not_found"
    refused = server.post("/v1/models/alias", {"model": "alpha", "alias": "demo"}).json()["error"]
    assert (refused["code"], refused["param"]) == ("invalid_request", "alias")


def test_a_model_that_is_loaded_is_not_forgotten(server: Server, fake: Callable[..., str]) -> None:
    fake()
    error = server.post("/v1/models/forget", {"model": "alpha"}).json()["error"]
    assert error["details"]["loaded"] == ["alpha"] and "uml unload alpha" in error["message"]


def test_a_client_forgets_a_model_and_a_folder(server: Server, tmp_path: Path) -> None:
    model = server.add_model("mayfly")
    path = Path(server.get(f"/v1/models/{model}").json()["path"])
    with Client(server.url) as client:
        assert client.alias(model, "short")["id"] == model
        assert client.forget("short") == {"folder": None, "models": ["mayfly"]}
        assert path.exists() and server.get(f"/v1/models/{model}").status_code == 404
        client.scan(tmp_path)
        assert client.forget(str(tmp_path)) == {"folder": str(tmp_path), "models": []}
        client.alias("alpha", "short")
        assert client.unalias("short") == {"alias": "short"}
