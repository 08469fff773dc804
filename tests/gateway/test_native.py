"""Models, workers, the machine: our own endpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.gateway.server import Server, ask, events
from tests.waiting import PATIENCE_S, eventually
from uml.registry import packaged_model


def test_models_are_listed_with_their_state(server: Server) -> None:
    assert server.chat("demo", max_tokens=1).status_code == 200
    found = {model["id"]: model for model in server.get("/v1/models").json()["data"]}
    demo = found["demo"]
    assert (demo["format"], demo["quantization"], demo["state"], demo["engine"]) == (
        "gguf",
        "Q8_0",
        "ready",
        "llamacpp",
    )
    assert demo["context_length"] == 2048 and demo["size"] > 5_000_000 and demo["path"].endswith("demo.gguf")
    ready = server.get("/v1/models?state=ready").json()["data"]
    assert "demo" in [model["id"] for model in ready]
    assert all(model["state"] == "ready" for model in ready)
    assert server.get("/v1/models?state=sleepy").status_code == 400
    for name in ("demo", "Demo", demo["path"]):
        assert server.get(f"/v1/models/{name}").json()["id"] == "demo"


def test_names_with_slashes_work(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "models--acme--tiny" / "model.gguf"
    path.parent.mkdir()
    shutil.copyfile(packaged_model(), path)
    added = server.post("/v1/models/add", {"path": str(path)}).json()
    by_path = server.get(f"/v1/models/{path!s}")
    assert by_path.json()["id"] == added["id"]
    assert server.get(f"/v1/models/{str(path).replace('/', '%2F')}").json()["id"] == added["id"]
    assert server.get(f"/v1/models/{path!s}/inspect").json()["format"] == "gguf"


def test_a_path_that_was_never_seen_can_be_loaded(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "stranger.gguf"
    shutil.copyfile(packaged_model(), path)
    worker = server.post("/v1/models/load", {"model": str(path), "options": {"ctx": 256}}).json()
    assert (worker["state"], worker["context_length"], worker["warnings"]) == ("ready", 256, [])
    assert server.chat(worker["model"], max_tokens=1).status_code == 200
    assert server.post("/v1/models/unload", {"model": worker["model"]}).json() == {"unloaded": [worker["model"]]}


def test_a_load_tells_its_progress(server: Server) -> None:
    body = {"model": "alpha", "options": {"engine": "fake", "extra_flags": ["load_s=0.5"]}, "stream": True}
    reply = server.post("/v1/models/load", body)
    assert reply.headers["content-type"].startswith("text/event-stream")
    names = [line[7:] for line in reply.text.splitlines() if line.startswith("event: ")]
    assert names[-1] == "ready" and set(names[:-1]) == {"progress"}
    *progress, ready = events(reply.text)
    assert {"loading"} <= {step["stage"] for step in progress} <= {"queued", "evicting", "starting", "loading"}
    percents = [step["percent"] for step in progress]
    assert percents == sorted(percents)
    assert (ready["model"], ready["engine"], ready["state"]) == ("alpha", "fake", "ready")
    assert server.post("/v1/models/unload", {"model": "alpha"}).json() == {"unloaded": ["alpha"]}


def test_a_load_that_fails_ends_its_stream_with_an_error(server: Server) -> None:
    body = {"model": "alpha", "options": {"engine": "fake", "extra_flags": ["crash_on_load=1"]}, "stream": True}
    assert events(server.post("/v1/models/load", body).text)[-1]["error"]["code"] == "load_failed"


def test_closing_the_connection_cancels_the_load(server: Server) -> None:
    body = {"model": "alpha", "options": {"engine": "fake", "extra_flags": ["hang_on_load=1"]}, "stream": True}
    with server.http.stream("POST", "/v1/models/load", json=body) as reply:
        assert "progress" in next(reply.iter_text())
        eventually(lambda: server.worker("alpha").get("state") in ("starting", "loading"))
    eventually(lambda: server.worker("alpha") == {})


def test_closing_the_connection_cancels_a_silent_load_too(server: Server) -> None:
    body = {"model": "alpha", "options": {"engine": "fake", "extra_flags": ["hang_on_load=1"]}}
    patience = httpx2.Timeout(PATIENCE_S, read=0.5)
    with (
        httpx2.Client(base_url=server.url, timeout=patience, trust_env=False) as http,
        pytest.raises(httpx2.ReadTimeout),
    ):
        http.post("/v1/models/load", json=body)
    eventually(lambda: server.worker("alpha") == {})


def test_unload_all(server: Server, fake: Callable[..., str]) -> None:
    fake()
    assert "alpha" in server.post("/v1/models/unload", {"all": True}).json()["unloaded"]
    assert server.get("/v1/models/status").json() == {"workers": [], "queue": [], "absent": []}
    assert server.post("/v1/models/unload", {"all": True}).json() == {"unloaded": []}


def test_an_estimate_has_parts_and_a_range(server: Server) -> None:
    found = server.post("/v1/models/estimate", {"model": "demo", "options": {"ctx": 1024}}).json()
    assert found["fits"] and found["options"]["ctx"] == 1024
    assert found["total"]["low"] <= found["total"]["likely"] <= found["total"]["high"]
    assert sum(found["parts"].values()) == found["total"]["likely"]
    assert sum(found["other_parts"].values()) <= found["parts"]["other"]


def test_a_folder_is_scanned(server: Server, tmp_path: Path) -> None:
    shutil.copyfile(packaged_model(), tmp_path / "found-by-scan.gguf")
    report = server.post("/v1/models/scan", {"folder": str(tmp_path)}).json()
    assert "found-by-scan" in report["added"]
    assert server.get("/v1/models/found-by-scan").json()["path"] == str(tmp_path / "found-by-scan.gguf")
    assert server.post("/v1/models/inspect", {"model": "found-by-scan"}).json()["architecture"] == "llama"


def test_the_engines_words_can_be_read(server: Server) -> None:
    server.chat("demo", max_tokens=1)
    log = server.get("/v1/models/demo/log?lines=5").json()
    assert log["model"] == "demo" and len(log["lines"]) <= 5
    assert server.get("/v1/models/demo/log?lines=0").status_code == 400


def test_tokens_there_and_back(server: Server) -> None:
    found = server.post("/v1/tokenize", {"model": "demo", "text": "hello world"}).json()
    assert found["count"] == len(found["tokens"]) and found["context_length"] > 0
    assert server.post("/v1/detokenize", {"model": "demo", "tokens": found["tokens"]}).json()["text"] == "hello world"
    pieces = server.post("/v1/tokenize", {"model": "demo", "prompt": "hello", "with_pieces": True}).json()["tokens"]
    assert "".join(piece["piece"] for piece in pieces) == "hello"


def test_the_machine_and_the_health_are_told(server: Server) -> None:
    machine = server.get("/v1/system/resources").json()
    assert machine["memory"]["total_bytes"] > machine["memory"]["free_bytes"] > 0
    assert server.get("/health/live").json() == {"status": "ok"}
    assert server.get("/health/ready").json()["status"] == "ok"
    assert server.get("/version").json()["version"]
    assert server.get("/").json()["docs"] == "/docs"


def test_everything_is_counted(server: Server, fake: Callable[..., str]) -> None:
    model = fake()
    server.chat(model, max_tokens=4)
    server.chat(model, max_tokens=4, stream=True, stream_options={"include_usage": True})
    text = server.get("/metrics").text
    for line in (
        'uml_requests_total{model="alpha",route="/v1/chat/completions",status="200"}',
        'uml_tokens_total{kind="completion",model="alpha"}',
        'uml_first_token_seconds_count{model="alpha"}',
        'uml_queue_seconds_count{model="alpha"}',
        'uml_load_seconds_count{engine="fake",model="alpha",outcome="ready"}',
        'uml_worker_memory_bytes{engine="fake",model="alpha",state="ready"}',
        "uml_requests_in_flight 1.0",
        "process_resident_memory_bytes",
    ):
        assert line in text, line
    tokens = [
        line for line in text.splitlines() if line.startswith('uml_tokens_total{kind="completion",model="alpha"}')
    ]
    assert float(tokens[0].split()[-1]) >= 8


def test_the_documentation_needs_no_network(server: Server) -> None:
    schema = server.get("/openapi.json").json()
    chat = schema["paths"]["/v1/chat/completions"]["post"]
    fields = chat["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"messages", "temperature", "tools", "strict"} <= set(fields)
    for path in ("/v1/models", "/v1/models/load", "/v1/embeddings", "/v1/tokenize", "/health/ready", "/metrics"):
        assert path in schema["paths"]
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].endswith("Error")
    page = server.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/v1/chat/completions" in page.text and "messages" in page.text
    assert "http://" not in page.text and "https://" not in page.text and "<script" not in page.text


def test_a_form_header_does_not_make_json_less_so(server: Server) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    reply = server.http.post("/v1/models/estimate", content=b'{"model": "demo"}', headers=headers)
    assert reply.status_code == 200
    chat = server.http.post("/v1/chat/completions", json=ask("demo", max_tokens=1), headers=headers)
    assert chat.status_code == 200


def test_answers_have_the_fields_that_the_page_promises(server: Server) -> None:
    schema = server.get("/openapi.json").json()

    def promised(method: str, path: str) -> set[str]:
        content = schema["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        reference = content.get("$ref", "").rpartition("/")[2]
        return set((schema["components"]["schemas"][reference] if reference else content)["properties"])

    for path in (
        "/v1/models",
        "/v1/models/status",
        "/v1/system/resources",
        "/health/live",
        "/health/ready",
        "/version",
    ):
        assert set(server.get(path).json()) == promised("get", path), path
    for path in ("/v1/models/{name}", "/v1/models/{name}/inspect", "/v1/models/{name}/log"):
        assert set(server.get(path.format(name="demo")).json()) == promised("get", path), path
    assert set(server.post("/v1/models/scan", {"folder": str(server.data)}).json()) == promised(
        "post", "/v1/models/scan"
    )
    for path in ("load", "estimate", "inspect", "unload"):
        reply = server.post(f"/v1/models/{path}", {"model": "demo"})
        assert set(reply.json()) == promised("post", f"/v1/models/{path}"), path


def test_strangers_numbers_and_homes_are_refused(server: Server) -> None:
    huge = server.post("/v1/models/estimate", {"model": "demo", "options": {"ctx": 10**30}})
    assert (huge.status_code, huge.json()["error"]["param"]) == (400, "options.ctx")
    home = server.post("/v1/models/add", {"path": "~nobody-of-this-name/x"})
    assert (home.status_code, home.json()["error"]["param"]) == (400, "path")
    for body in (b'{"model": "\xff"}', b'{"model": ' + b"9" * 5000 + b"}"):
        reply = server.http.post("/v1/models/inspect", content=body)
        assert (reply.status_code, reply.json()["error"]["message"]) == (400, "the body is not JSON")
    assert server.get("/docs/").json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "; did you mean /v1/chat/completions? The base URL of an OpenAI client ends in /v1"),
        ("/v1/v1/models", "; did you mean /v1/models? The base URL has /v1 already"),
        ("/v1/chat/completion", "; did you mean /v1/chat/completions?"),
        ("/api/chat", "point the program at /v1 as an OpenAI server: /v1/chat/completions"),
        ("/api/pull", "not downloaded or made here: put the file anywhere, then POST /v1/models/add"),
        ("/v1/messages", "where Anthropic has its own API; point the program at /v1 as an OpenAI server"),
        ("/v1/responses", "the older way of OpenAI is here: /v1/chat/completions"),
        ("/api/v1/generate", "where KoboldCpp has its own API"),
        ("/v1/internal/model/load", "text-generation-webui has its own API"),
        ("/health", "did you mean /health/live"),
        ("/slots", "did you mean /v1/models/status?"),
        ("/upstream/demo/v1/models", "passed on by the `model` that they name"),
        ("/v1", "the base URL of an OpenAI client"),
        ("/v1/images/generations", "no engine here makes or hears images"),
        ("/v1/fine_tuning/jobs", "there is nothing at /v1/fine_tuning/jobs; /docs lists what there is"),
    ],
)
def test_a_client_at_the_wrong_address_is_told_the_right_one(server: Server, path: str, hint: str) -> None:
    error = server.post(path, {}).json()["error"]
    assert error["code"] == "not_found" and hint in error["message"]


def test_a_load_of_a_model_whose_file_was_replaced_reads_the_new_one(server: Server) -> None:
    model = server.add_model("replaced")
    path = server.data / "models" / "replaced.gguf"

    def load() -> httpx2.Response:
        return server.post("/v1/models/load", {"model": model})

    assert load().status_code == 200
    first = server.worker(model)["pid"]
    assert load().status_code == 200 and server.worker(model)["pid"] == first, "nothing has changed"
    other = path.with_suffix(".new")
    shutil.copyfile(packaged_model().with_name("demo-draft.gguf"), other)
    other.replace(path)
    assert load().status_code == 200
    second = server.worker(model)["pid"]
    assert second != first
    other.write_bytes(b"no model at all" * 100)
    other.replace(path)
    refused = load()
    assert refused.status_code == 422 and str(path) in refused.json()["error"]["message"]
    assert server.worker(model)["pid"] == second, "the one that is loaded serves on"
    assert server.chat(model, max_tokens=1).status_code == 200
