"""How long models stay, as clients see and say it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.builders import write_tiny_gguf
from tests.gateway.server import Server, ask, running
from tests.waiting import eventually


def test_a_chat_says_how_long_the_model_stays(server: Server, fake: Callable[..., str]) -> None:
    model = fake()
    assert server.chat(model, keep_alive="10m").json()["choices"]
    assert 500 < server.worker(model)["unloads_in_s"] <= 600
    reply = server.chat(model, keep_alive=-1)
    assert "warnings" not in reply.json(), "no engine is asked about it"
    assert server.worker(model)["unloads_in_s"] is None
    server.chat(model, keep_alive=0)
    eventually(lambda: not server.worker(model))


def test_a_load_says_it_too(server: Server) -> None:
    model = server.add_model("brief")
    body = {"model": model, "options": {"engine": "fake"}, "keep_alive": "5m"}
    reply = server.post("/v1/models/load", body).json()
    assert (reply["state"], reply["warnings"]) == ("ready", [])
    assert 200 < server.worker(model)["unloads_in_s"] <= 300
    server.post("/v1/models/unload", {"model": model})


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models/load"])
def test_a_time_that_is_none_is_refused(server: Server, path: str) -> None:
    body = ask("demo", keep_alive="soon") if "chat" in path else {"model": "demo", "keep_alive": "soon"}
    error = server.post(path, body).json()["error"]
    assert error["param"] == "keep_alive"
    assert error["message"].startswith("keep_alive is ")
    assert "soon" in error["message"]
    assert "; expected seconds, a duration (`5m`" in error["message"]


def test_a_model_is_pinned_and_let_go(server: Server) -> None:
    model = server.add_model("kept")
    reply = server.post("/v1/models/pin", {"model": model, "options": {"engine": "fake"}}).json()
    assert (reply["state"], reply["kept"], reply["unloads_in_s"]) == ("ready", "pinned", None)
    assert server.post("/v1/models/unpin", {"model": model}).json() == {"model": model, "was_kept": True}
    assert server.post("/v1/models/unpin", {"model": model}).json() == {"model": model, "was_kept": False}
    assert server.worker(model)["kept"] == ""
    server.post("/v1/models/unload", {"model": model})


def test_a_load_that_failed_says_when_it_is_tried_again_and_how_sooner(server: Server) -> None:
    path = write_tiny_gguf(server.data / "headers-only.gguf")
    model = server.post("/v1/models/add", {"path": str(path)}).json()["id"]
    first = server.chat(model)
    assert first.status_code >= 422
    again = server.chat(model)
    error = again.json()["error"]
    assert (again.status_code, error["code"]) == (503, "load_suspended")
    assert error["details"]["cause"] == first.json()["error"]["code"]
    assert 0 < int(again.headers["retry-after"]) <= 300
    assert f"or at once by: uml load {model}" in error["message"]
    (failed,) = (one for one in server.get("/v1/models/status").json()["workers"] if one["model"] == model)
    assert 0 < failed["retry_in_s"] <= 300
    loaded = server.post("/v1/models/load", {"model": model})
    assert loaded.json()["error"]["code"] == first.json()["error"]["code"], "a person is not held back"


def test_the_place_in_the_queue_comes_with_the_answer(server: Server, fake: Callable[..., str]) -> None:
    model = fake("tokens_per_s=20", parallel=1)
    slow = threading.Thread(target=lambda: server.chat(model, max_tokens=20))
    slow.start()
    eventually(lambda: server.worker(model)["in_flight"])
    replies = []
    second = threading.Thread(target=lambda: replies.append(server.chat(model, max_tokens=1)))
    second.start()
    eventually(lambda: server.get("/v1/models/status").json()["queue"])
    (place,) = server.get("/v1/models/status").json()["queue"]
    assert (place["model"], place["position"], place["waits_for"]) == (model, 1, "slot")
    slow.join()
    second.join()
    assert replies[0].headers["x-uml-queue-position"] == "1"
    assert server.chat(model, max_tokens=1).headers["x-uml-queue-position"] == "0"


def test_who_counts_tokens_is_told_how_long_that_waited(server: Server) -> None:
    model = server.add_model("counted")
    for path, body in (("/v1/tokenize", {"text": "one two"}), ("/v1/detokenize", {"tokens": [5]})):
        reply = server.post(path, {"model": model, **body})
        assert (reply.status_code, reply.headers["x-uml-model"]) == (200, model)
        assert int(reply.headers["x-uml-queue-position"]) == (path == "/v1/tokenize"), "it was loaded for the first"
    server.post("/v1/models/unload", {"model": model})


def test_the_wait_of_who_left_the_queue_is_counted(server: Server, fake: Callable[..., str]) -> None:
    def waited_s() -> float:
        lines = server.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith('uml_queue_seconds_sum{model="alpha"'))

    model = fake("tokens_per_s=20", parallel=1)
    before_s = waited_s()
    slow = threading.Thread(target=lambda: server.chat(model, max_tokens=30))
    slow.start()
    eventually(lambda: server.worker(model)["in_flight"])
    with pytest.raises(httpx2.ReadTimeout):
        server.http.post("/v1/chat/completions", json=ask(model), timeout=0.5)
    eventually(lambda: waited_s() >= before_s + 0.4, "a wait that came to nothing is none")
    slow.join()


def test_models_are_preloaded_at_the_start_and_unknown_names_are_told(tmp_path: Path) -> None:
    flags = {"preload": "demo,nobody", "idle_unload_s": "1s", "options": {"engine": "fake"}}
    with running(tmp_path / "data", **flags) as server:
        eventually(lambda: server.worker("demo").get("state") == "ready")
        worker = server.worker("demo")
        assert (worker["kept"], worker["unloads_in_s"]) == ("preloaded", None)
        eventually(lambda: "no model is called nobody: it is not preloaded" in server.stderr())
        server.post("/v1/models/unpin", {"model": "demo"})
        eventually(lambda: not server.worker("demo"))


def test_a_pin_outlives_its_server_and_ends_when_somebody_says_so(tmp_path: Path) -> None:
    data, flags = tmp_path / "data", {"options": {"engine": "fake"}, "preload": "demo"}
    with running(data, **flags) as server:
        other = server.add_model("other")
        for model, options in (("demo", {"ctx": 640}), (other, {})):
            reply = server.post("/v1/models/pin", {"model": model, "options": options}).json()
            assert (reply["kept"], reply["warnings"]) == ("pinned", [])
    with running(data, **flags) as server:
        eventually(lambda: {server.worker(model).get("state") for model in ("demo", other)} == {"ready"})
        shown = server.worker("demo")
        assert (shown["kept"], shown["context_length"]) == ("pinned", 640), "as it was pinned, and not as preloaded"
        assert server.chat(other).status_code == 200
        server.post("/v1/models/unload", {"model": "demo"})
        assert server.post("/v1/models/unpin", {"model": other}).json()["was_kept"]
    with running(data, options=flags["options"]) as server:
        eventually(lambda: server.stderr().count("looked for models") == 3)  # which comes after what was pinned
        assert server.get("/v1/models/status").json()["workers"] == []


def test_what_is_pinned_and_not_there_is_told_with_the_reason(tmp_path: Path) -> None:
    data, fake = tmp_path / "data", {"engine": "fake", "ctx": 256, "parallel": 1}
    with running(data) as server:
        for model in ("demo", server.add_model("other")):
            assert server.post("/v1/models/pin", {"model": model, "options": fake}).status_code == 200

    with running(data, memory_budget="60MiB") as server:

        def status() -> Any:
            return server.get("/v1/models/status").json()

        eventually(lambda: [one["error"] is not None for one in status()["absent"]] == [True])
        (absent,) = status()["absent"]
        assert (absent["kept"], absent["error"]["code"]) == ("pinned", "does_not_fit")
        uml = [sys.executable, "-m", "uml", "ps", "--data", str(data)]
        told = subprocess.run(uml, capture_output=True, text=True, check=True, timeout=50).stdout
        assert "To be loaded" in told and absent["error"]["message"] in told
        (there,) = [worker["model"] for worker in status()["workers"]]
        server.post("/v1/models/unpin", {"model": there})
        server.post("/v1/models/unload", {"model": there})
        eventually(lambda: server.worker(absent["model"]).get("state") == "ready")
        assert status()["absent"] == []


def test_a_pin_that_cannot_be_written_down_says_so(tmp_path: Path) -> None:
    with running(tmp_path / "data", options={"engine": "fake"}) as server:
        with sqlite3.connect(server.data / "registry.sqlite") as database:
            database.execute("DROP TABLE pins")
        reply = server.post("/v1/models/pin", {"model": "demo"}).json()
        assert reply["kept"] == "pinned"
        assert reply["warnings"][-1].startswith("it is pinned until this server ends, and not after it: the registry ")
        assert server.post("/v1/models/unload", {"all": True}).json() == {"unloaded": ["demo"]}
