from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.standin import World, standing_in
from tests.waiting import PATIENCE_S
from uml.client import Client, find_server, read_server_file
from uml.client.connection import Connection
from uml.core.errors import (
    BadFile,
    BadKey,
    BadRequest,
    ConnectionLost,
    ModelNotFound,
    NoServer,
    NotFound,
    OutOfMemory,
    WorkerDied,
)


@pytest.fixture
def world() -> Iterator[World]:
    with standing_in() as world:
        yield world


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    with Client(world.url) as client:
        yield client


def test_models_are_told_by_id_and_by_alias(client: Client) -> None:
    assert [model["id"] for model in client.models()] == ["demo", "big"]
    assert client.model("uml-demo")["id"] == "demo"
    assert client.live() and client.ready()
    assert client.version() == {"version": "0.0.0"}
    assert client.resources() == {"memory": {"total_bytes": 1}}


def test_an_error_comes_back_as_the_class_that_it_was(client: Client) -> None:
    with pytest.raises(ModelNotFound) as caught:
        client.model("dmeo")
    assert str(caught.value) == str(ModelNotFound("dmeo", ["demo"]))
    assert caught.value.details == {"close": ["demo"]} and caught.value.param == "model"
    with pytest.raises(BadFile) as bad:
        client.add(Path("/m/broken.gguf"))
    assert bad.value.path == Path("/m/broken.gguf")


def test_a_load_tells_its_steps_and_ends_with_ready(client: Client, world: World) -> None:
    events = list(client.load("demo", {"ctx": 512}))
    assert [event["event"] for event in events] == ["progress", "progress", "progress", "ready"]
    assert [event["percent"] for event in events[:-1]] == [0.0, 50.0, 100.0]
    assert world.bodies("/v1/models/load") == [{"model": "demo", "options": {"ctx": 512}, "stream": True}]
    assert client.status()["workers"][0]["model"] == "demo"
    assert client.unload() == {"unloaded": ["demo"]}
    assert client.unload("demo") == {"unloaded": ["demo"]}


def test_a_load_that_fails_raises_its_cause(client: Client) -> None:
    steps = client.load("big")
    assert next(steps)["stage"] == "loading"
    with pytest.raises(OutOfMemory) as caught:
        list(steps)
    assert caught.value.details["needed"] == 40 << 30


def test_closing_a_load_leaves_the_server(client: Client, world: World) -> None:
    world.endless = True
    steps = client.load("demo")
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert world.gone.wait(PATIENCE_S)


def test_an_answer_comes_in_pieces_with_usage_and_timings_last(client: Client, world: World) -> None:
    pieces = list(client.chat("demo", [{"role": "user", "content": "Japan?"}], temperature=0))
    assert "".join(piece.text for piece in pieces) == "Tokyo."
    assert pieces[-1].usage == {"prompt_tokens": 7, "completion_tokens": 3}
    assert pieces[-1].timings == {"predicted_per_second": 123.4}
    assert [piece.finish for piece in pieces if piece.finish] == ["stop"]
    assert [warning for piece in pieces for warning in piece.warnings] == [{"param": "mirostat", "reason": "not here"}]
    (body,) = world.bodies("/v1/chat/completions")
    assert body["temperature"] == 0 and body["stream"] and body["stream_options"] == {"include_usage": True}
    assert "".join(piece.text for piece in client.complete("demo", "The capital is")) == "Tokyo."


def test_closing_an_answer_leaves_the_server(client: Client, world: World) -> None:
    world.endless = True
    pieces = client.chat("demo", [])
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert world.gone.wait(PATIENCE_S)


def test_an_error_in_mid_answer_is_raised(client: Client, world: World) -> None:
    world.error = WorkerDied("demo", "signal 9")
    pieces = client.chat("demo", [])
    assert next(pieces).text == "To"
    with pytest.raises(WorkerDied, match="signal 9"):
        next(pieces)


def test_a_connection_that_breaks_in_mid_answer_is_told(client: Client, world: World) -> None:
    world.break_after = 1
    with pytest.raises(ConnectionLost):
        list(client.chat("demo", []))


def test_an_unknown_model_is_refused_before_the_first_piece(client: Client) -> None:
    with pytest.raises(ModelNotFound):
        next(client.chat("nobody", []))


def test_texts_become_tokens_and_vectors(client: Client) -> None:
    assert client.detokenize("demo", client.tokenize("demo", "hi")) == "hi"
    assert client.embed("demo", ["a", "b"]) == [[0.0, 0.5], [1.0, 0.5]]


def test_files_estimates_and_logs(
    client: Client, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client.scan(Path("models"))
    assert world.bodies("/v1/models/scan") == [{"folder": str(tmp_path / "models")}]
    assert client.estimate("demo", {"ctx": 1})["fits"]
    assert client.inspect("demo")["format"] == "gguf"
    assert client.log("demo", 2) == ["line 4", "line 5"]


def test_the_key_goes_with_every_request() -> None:
    with standing_in(World(key="secret")) as world:
        with Client(world.url) as stranger, pytest.raises(BadKey):
            stranger.models()
        with Client(world.url, "secret") as friend:
            assert friend.models()


def test_no_server_is_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client:
        assert not client.live()
        with pytest.raises(NoServer, match=f"127.0.0.1:{port}.*uml serve"):
            client.models()
        with pytest.raises(NoServer):
            next(client.chat("demo", []))


@pytest.mark.parametrize("url", ["http://[oops", "ftp://host", "http://", "http://host:99999", "http://host:0", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="http://HOST:PORT"):
        Client(url)
    assert Client("127.0.0.1:8080/").url == "http://127.0.0.1:8080"


def test_another_program_on_the_port_is_noticed(client: Client) -> None:
    connection = Connection(client.url, None, 30.0)
    with pytest.raises(ConnectionLost, match="no JSON"):
        connection.ask("GET", "/not/json")
    with pytest.raises(NotFound):
        connection.ask("GET", "/nothing")
    connection.close()


def test_a_server_is_found_by_its_file(tmp_path: Path, world: World) -> None:
    assert read_server_file(tmp_path) is None and find_server(tmp_path) is None
    (tmp_path / "server.json").write_text(json.dumps({"url": world.url, "pid": os.getpid(), "key": None}))
    found = find_server(tmp_path)
    assert found is not None
    with found:
        assert found.url == world.url and found.models()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": "http://127.0.0.1:1", "pid": "x"}', "\0"])
def test_a_spoilt_server_file_is_no_server(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.json").write_text(content)
    assert find_server(tmp_path) is None


def test_a_server_that_died_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"url": "http://127.0.0.1:9", "pid": 1, "key": "k"}')
    assert find_server(tmp_path) is None


def test_importing_the_client_is_light() -> None:
    code = "import sys, uml.client; print([m for m in ('httpx2', 'rich', 'typer', 'asyncio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
