"""`GET /v1/models/{id}/capabilities`, and the choice of an engine where it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import llama_config, write_hf_folder
from tests.gateway.server import Server
from tests.installed import without_transformers


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


def test_engines_are_put_in_order_by_what_is_needed(server: Server) -> None:
    model = server.add_model("needy")
    place = f"/v1/models/{model}/capabilities?needs="
    assert server.get(f"{place}json_schema,lora").json()["engines"][0]["lacks"] == []
    (engine, *_) = server.get(f"{place}regex,vision").json()["engines"]
    assert engine["lacks"] == ["regex"]
    assert "without regex" in engine["reason"]
    reply = server.get(f"{place}jsonschema")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "needs")


def test_a_path_and_an_unknown_name(server: Server) -> None:
    model = server.add_model("other")
    path = server.get(f"/v1/models/{model}").json()["path"]
    assert server.get(f"/v1/models/{path}/capabilities").json()["engine"] == "llamacpp"
    reply = server.get("/v1/models/nobody/capabilities")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("engine", "status", "code", "says"),
    [
        pytest.param(
            *("auto", 409, "engine_not_installed", "uml engine install transformers"), marks=without_transformers
        ),
        ("transformers==9.9", 409, "engine_not_installed", "uml engine install transformers"),
        ("vllm", 400, "bad_option", "vLLM needs a device of cuda"),
        ("llamacpp", 400, "bad_option", "llama.cpp does not run safetensors"),
        ("exllamav3", 400, "bad_option", "ExLlamaV3 needs a device of cuda"),
        ("exllamav2", 400, "bad_option", "ExLlamaV2 does not run safetensors"),
        ("nobody", 400, "bad_option", "nobody"),
    ],
)
def test_an_engine_that_is_asked_for_is_taken_or_it_is_said_why_not(
    server: Server, tmp_path: Path, engine: str, status: int, code: str, says: str
) -> None:
    model = server.post("/v1/models/add", {"path": str(write_hf_folder(tmp_path / "hf", llama_config()))}).json()["id"]
    reply = server.post("/v1/models/load", {"model": model, "options": {"engine": engine}})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code), error
    assert says in error["message"]


@without_transformers
def test_what_nothing_installed_runs_has_the_matrix_that_it_would_have(server: Server, tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path / "hf", llama_config())
    found = server.get(f"/v1/models/{folder}/capabilities").json()
    assert (found["engine"], found["installed"]) == ("transformers", False)
    assert found["reason"].endswith("not installed: uml engine install transformers")
    # vLLM's install is for NVIDIA's GPUs, and this server is told of none.
    assert found["abilities"]["chat"]["can"] and [one["engine"] for one in found["engines"]] == ["transformers"]
    nobody = write_hf_folder(tmp_path / "new", llama_config(quantization_config={"quant_method": "new"}))
    found = server.get(f"/v1/models/{nobody}/capabilities").json()
    assert (found["engine"], found["abilities"]) == (None, {}) and "no engine here runs" in found["reason"]
