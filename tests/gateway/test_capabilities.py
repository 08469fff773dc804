"""`GET /v1/models/{id}/capabilities`, and the choice of an engine where it is shown."""

from __future__ import annotations

from tests.gateway.server import Server


def test_the_matrix_of_a_model_that_is_not_loaded_and_of_one_that_is(server: Server) -> None:
    model = server.add_model("able")
    found = server.get(f"/v1/models/{model}/capabilities").json()
    assert (found["model"], found["engine"], found["installed"]) == (model, "llamacpp", True)
    assert found["reason"].startswith("llama.cpp runs gguf on the processor; installed")
    assert found["engines"][0]["engine"] == "llamacpp"
    assert found["abilities"]["chat"]["can"] and found["abilities"]["sessions"]["can"]
    assert found["parameters"]["mirostat_mode"] == {"can": True, "names": ["mirostat"], "sampler": True}
    assert found["parameters"]["top_a"] == {"can": False, "names": [], "sampler": True}
    assert found["options"]["ctx"] and found["options"]["keep_alive"]

    server.load_fake(model)
    loaded = server.get(f"/v1/models/{model}/capabilities").json()
    assert loaded["engine"] == "fake", "it is loaded, and with this one"
    assert loaded["reason"] == "Invented tokens, for tests was asked for"
    assert not loaded["options"]["lora"] and not loaded["abilities"]["lora"]["can"]
    entry = server.get(f"/v1/models/{model}").json()
    assert (entry["engine"], entry["reason"], entry["needs"]) == ("fake", loaded["reason"], None)
    assert server.worker(model)["choice"] == loaded["reason"]


def test_a_path_and_an_unknown_name(server: Server) -> None:
    model = server.add_model("other")
    path = server.get(f"/v1/models/{model}").json()["path"]
    assert server.get(f"/v1/models/{path}/capabilities").json()["engine"] == "llamacpp"
    reply = server.get("/v1/models/nobody/capabilities")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
