"""Models made of others over the wire, by a real server and llama.cpp's own code."""

from __future__ import annotations

import json

import pytest

from tests.builders import llama_metadata, llama_tensors, write_gguf
from tests.gateway.server import Server
from tests.runtime.conversions.hf_folders import write_folder
from tests.waiting import eventually
from uml.cli.main import main
from uml.client.client import Client
from uml.core.errors import BadRequest

TEXT = "What is 7 + 8? 7 + 8 is 15. Who are you? I am a small model. " * 4


def test_a_model_is_quantized_over_the_wire_step_by_step(server: Server) -> None:
    model = server.add_model("wire")
    with Client(server.url) as client:
        events = list(client.quantize(model, ["q4_0", "Q5_0"], text=TEXT, threads=1))
    names = [event["event"] for event in events]
    assert (names[0], names[-1], names.count("made")) == ("warning", "ready", 2)
    assert "is Q8_0 already" in events[0]["text"]
    progress = next(event for event in events if event["event"] == "progress")
    assert {"of", "text", "percent"} <= progress.keys()
    last = events[-1]
    assert [one["kind"] for one in last["made"]] == ["Q4_0", "Q5_0"]
    assert last["made"][0]["size"] < last["from"]["size"] and last["made"][0]["perplexity"] > 1
    for one in last["made"]:
        assert server.get(f"/v1/models/{one['model']}").json()["quantization"] == one["kind"]


def test_without_a_stream_the_answer_is_what_was_made_or_its_error(server: Server) -> None:
    model = server.add_model("plain")
    reply = server.post("/v1/models/quantize", {"model": model, "to": ["q4_0"]})
    assert (reply.status_code, reply.json()["made"][0]["kind"]) == (200, "Q4_0")
    again = server.post("/v1/models/quantize", {"model": model, "to": ["q4_0"]})
    assert again.status_code == 400 and "is there already" in again.json()["error"]["message"]


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        ({"to": []}, 400, "to"),
        ({"to": ["q9"]}, 400, "the kind is 'q9'"),
        ({"to": ["iq1_s"]}, 400, "needs an importance matrix"),
        ({"to": ["iq1_s"], "imatrix": "/none"}, 422, "there is no such file"),
        ({"to": ["q4_0"], "out": "/tmp"}, 400, "out"),
        ({"to": ["q4_0"], "model": "nobody"}, 404, "nobody"),
    ],
)
def test_what_cannot_be_is_refused(server: Server, more: dict[str, object], status: int, says: str) -> None:
    reply = server.post("/v1/models/quantize", {"model": "demo", **more})
    assert (reply.status_code, says in reply.json()["error"]["message"]) == (status, True), reply.text


def test_a_client_that_leaves_stops_it_and_nothing_is_left(server: Server) -> None:
    path = write_gguf(
        server.data / "large-f16.gguf",
        llama_metadata(embedding=256, feed_forward=8192, layers=8, file_type=1),
        llama_tensors(kind="F16", embedding=256, feed_forward=8192, layers=8),
    )
    with Client(server.url) as client:
        events = client.quantize(str(path), ["q5_k_m"], threads=1)
        assert next(events)["event"] == "progress"
        models = server.data / "models"
        assert list(models.glob(".uml-making-*"))
        events.close()  # type: ignore[attr-defined]  # it is a generator
        eventually(lambda: not list(models.glob(".uml-making-*")))
        assert not list(models.glob("large*"))
        with pytest.raises(BadRequest, match="no kind is named"):
            list(client.quantize("demo", [" "]))


def test_the_command_line_has_it_done_there(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    model = server.add_model("afar")
    assert main(["quantize", model, "--to", "q4_1", "--threads", "1", "--server", server.url, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "ready" and lines[-1]["made"][0]["path"].startswith(str(server.data))
    assert main(["quantize", model, "--to", "q4_1", "--out", "/tmp", "--server", server.url]) == 2
    assert "--out means nothing with --server" in capsys.readouterr().err


def test_a_folder_becomes_gguf_over_the_wire(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(server.data / "Wire-Llama")
    with Client(server.url) as client:
        events = list(client.convert(str(folder), "gguf", precision="q8_0", threads=1))
    assert {"progress", "ready"} <= {event["event"] for event in events}
    assert all({"of", "text", "percent"} <= event.keys() for event in events if event["event"] == "progress")
    made = events[-1]["model"]
    assert server.get(f"/v1/models/{made}").json()["format"] == "gguf"
    reply = server.post("/v1/models/convert", {"model": str(folder), "to": "gguf", "precision": "bf16"})
    assert reply.status_code == 200 and reply.json()["path"].endswith("-bf16.gguf")
    command = ["convert", str(folder), "--to", "gguf", "--precision", "f32", "--server", server.url]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["path"].startswith(str(server.data))
    assert main([*command, "--out", "/tmp/x"]) == 2
    assert "--out means nothing with --server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        ({"to": "exl9"}, 400, "expected one of gguf, safetensors, onnx"),
        ({"to": "gguf", "precision": "q9"}, 400, "expected one of f32, f16, bf16"),
        ({"to": "safetensors", "precision": "f16"}, 400, "precision means nothing for safetensors"),
        ({"to": "onnx", "threads": 2}, 400, "threads means nothing for onnx"),
        ({"to": "gguf", "converter": "/bin/true"}, 400, "converter"),
    ],
)
def test_what_cannot_be_converted_is_refused(server: Server, more: dict[str, object], status: int, says: str) -> None:
    """No program of a request's is run on the server's machine."""
    reply = server.post("/v1/models/convert", {"model": "demo", **more})
    assert (reply.status_code, says in reply.json()["error"]["message"]) == (status, True), reply.text
