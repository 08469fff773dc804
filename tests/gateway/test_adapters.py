"""Adapters that come and go while a model is loaded, through a real server and a worker that is confined."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.server import Server, ask, running
from uml.cli.main import main
from uml.client.client import Client
from uml.core.errors import BadOption, BadRequest
from uml.registry import packaged_model

PIRATE = packaged_model().with_name("demo-pirate-peft")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("adapters")) as server:
        yield server


def said(server: Server, model: str, **more: object) -> str:
    reply = server.chat(model, max_tokens=3, **more)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def test_an_adapter_comes_is_chosen_by_requests_and_goes(server: Server) -> None:
    model = server.add_model("loud")
    server.load_fake(model)
    with Client(server.url) as client:
        assert client.adapters(model) == []
        # The worker may read nothing of that folder: it gets a copy, and shows where it came from.
        made = client.load_adapter(model, str(PIRATE), 0)
        shown = {"id": 0, "name": "demo-pirate-peft", "path": str(PIRATE), "scale": 0}
        assert (made["id"], made["data"]) == (0, [shown])
        assert said(server, model) == "one two three"
        assert said(server, model, lora=[{"id": 0}]) == "ONE TWO THREE"
        assert client.scale_adapter(model, 0, 0.5)["data"] == [{**shown, "scale": 0.5}]
        assert said(server, model) == "ONE TWO THREE"
        assert said(server, model, lora=[]) == "one two three"
        assert client.unload_adapter(model, 0)["data"] == []
        assert said(server, model) == "one two three"
        refused = server.chat(model, lora=[{"id": 0}])
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "lora")
        # It may come again; a number stands for one adapter for ever.
        assert client.load_adapter(model, str(PIRATE))["id"] == 1
        client.unload(model)
        assert client.adapters(model) == [], "it is gone with the model"


def test_what_cannot_be_is_said(server: Server, tmp_path: Path) -> None:
    model = server.add_model("strict")
    server.load_fake(model)
    (tmp_path / "empty").mkdir()
    with Client(server.url) as client:
        with pytest.raises(BadOption, match="option lora is 'nosuch'; expected the path of a file"):
            client.load_adapter(model, "nosuch")
        folder = packaged_model().with_name("demo-safetensors")
        with pytest.raises(BadRequest, match=f"option lora is '{folder}'; expected a folder"):
            client.load_adapter(model, str(folder))
        with pytest.raises(BadRequest, match="there is no adapter 7; none is loaded"):
            client.unload_adapter(model, 7)
        client.load_adapter(model, str(PIRATE))
        with pytest.raises(BadRequest, match=r"there is no adapter 7; there are 0 \(demo-pirate-peft\)"):
            client.scale_adapter(model, 7, 1)
        reply = server.post("/v1/models/adapters/scale", {"model": model, "id": 0, "scale": 1000})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "scale")


def test_one_that_cannot_be_copied_is_refused_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    model = server.add_model("hollow")
    server.load_fake(model)
    hollow = tmp_path / "hollow"
    shutil.copytree(PIRATE, hollow)
    (hollow / "adapter_notes.txt").symlink_to(tmp_path / "nowhere")
    with Client(server.url) as client:
        with pytest.raises(BadRequest, match=r"cannot be copied for the worker: .*adapter_notes.txt: No such file"):
            client.load_adapter(model, str(hollow))
        assert client.adapters(model) == []
        (hollow / "adapter_notes.txt").unlink()
        assert client.load_adapter(model, str(hollow))["id"] == 0


def test_llama_cpp_tells_and_scales_those_of_its_load(server: Server) -> None:
    pirate = str(packaged_model().with_name("demo-pirate.gguf"))
    with Client(server.url) as client:
        list(client.load("demo", {"engine": "llamacpp", "lora": [pirate], "ctx": 256, "parallel": 1, "threads": 2}))
        assert client.adapters("demo") == [{"id": 0, "name": "demo-pirate", "path": pirate, "scale": 1}]
        asked = ask("demo", "What is the capital of Japan?", temperature=0, max_tokens=8)
        assert "Arr" in server.post("/v1/chat/completions", asked).text
        assert client.scale_adapter("demo", 0, 0)["data"][0]["scale"] == 0
        assert "Arr" not in server.post("/v1/chat/completions", asked).text
        with pytest.raises(BadRequest, match="load demo with the option lora"):
            client.load_adapter("demo", pirate)
        with pytest.raises(BadRequest, match="load demo with the option lora"):
            client.unload_adapter("demo", 0)


def test_the_command_line_names_them_as_people_do(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = server.add_model("typed")
    server.load_fake(model)

    def uml(*words: str) -> str:
        code = main(["lora", *words, "--server", server.url])
        told = capsys.readouterr()
        return told.out if code == 0 else told.err

    assert uml("ls", model) == f"{model} has no adapters\n"
    assert uml("load", model, str(PIRATE), "--scale", "0") == f"{model} has the adapter 0, until it is unloaded\n"
    assert uml("scale", model, "demo-pirate-peft", "0.5") == f"the adapter 0 of {model} works with 0.5\n"
    assert uml("ls", model).splitlines()[1].split() == ["0", "demo-pirate-peft", "0.5", str(PIRATE)]
    assert "there are: 0 (demo-pirate-peft)" in uml("unload", model, "pirate")
    assert uml("unload", model, "0") == f"{model} has the adapter 0 no longer\n"
