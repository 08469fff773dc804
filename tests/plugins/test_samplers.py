"""A plug-in's sampler through the whole server: sandboxed workers of another engine find its file, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines import contract, demo_onnx
from tests.gateway.server import Server, events, running, spoken
from tests.plugins.packages import install_example, write_package

BAD = """
from pathlib import Path
from uml.core.plan import SamplerFile
from uml.plugins import hookimpl

@hookimpl
def register_samplers():
    return [SamplerFile(name, Path(__file__).with_name(f"bad_{name}.py")) for name in ("raises", "lost")]
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # an engine is installed for it, and its worker loads a model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    contract.subject_of("onnx")
    site = write_package(install_example(tmp_path_factory.mktemp("site")), "bad", BAD)
    (site / "bad_raises.py").write_text("def sampler(setting, about):\n    return lambda logits, tokens: 1 / 0\n")
    (site / "bad_lost.py").write_text("import there_is_no_such_module\ndef sampler(setting, about):\n    return 1\n")
    data = tmp_path_factory.mktemp("plugged") / "data"
    data.mkdir()
    (data / "engines").symlink_to(contract.INSTALLS.folder.absolute())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        with running(data) as started:
            started.http.timeout = contract.READY_S
            yield started


@pytest.fixture(scope="module")
def model(server: Server) -> str:
    path = demo_onnx.write(contract.SOURCE, server.data / "demo-onnx")
    reply = server.post("/v1/models/add", {"path": str(path)})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def asked(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": "Once upon a time", "max_tokens": 30, "temperature": 0, **more}


def test_it_acts_in_answers_that_ask_for_it_streamed_or_not(server: Server, model: str) -> None:
    wish = {"plugin_samplers": {"lipogram": "e"}}
    plain, without = (server.post("/v1/completions", asked(model, **more)) for more in ({}, wish))
    assert without.status_code == 200, without.text
    text = without.json()["choices"][0]["text"]
    assert "e" in plain.json()["choices"][0]["text"] and text.strip() and "e" not in text
    assert "warnings" not in without.json()
    streamed = server.chat(model, stream=True, max_tokens=30, temperature=0, **wish)
    assert "e" not in spoken(events(streamed.text)) != ""


def test_who_has_it_is_told_before(server: Server, model: str) -> None:
    (found,) = [one for one in server.get("/v1/plugins").json()["plugins"] if one["name"] == "wordchain"]
    assert found["adds"]["register_samplers"] == ["lipogram"]
    for name, can in ((model, True), ("demo", False)):
        matrix = server.get(f"/v1/models/{name}/capabilities").json()["parameters"]
        assert matrix["plugin_samplers.lipogram"] == {**matrix["plugin_samplers"], "can": can, "sampler": True}
    refused = server.post("/v1/completions", asked("demo", strict=True, plugin_samplers={"lipogram": "e"}))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "plugin_samplers")


@pytest.mark.parametrize(
    ("name", "setting", "status", "says"),
    [
        ("lipogram", 5, 400, "5 is no text of letters"),
        ("nobody", 1, 400, "there is no such sampler; known are"),
        ("lost", 1, 400, "is left out: its import raised ModuleNotFoundError"),
        ("raises", 1, 502, "the sampler raises of the plug-in bad: its step raised ZeroDivisionError"),
    ],
)
def test_one_that_is_no_good_harms_the_request_that_named_it(
    server: Server, model: str, name: str, setting: Any, status: int, says: str
) -> None:
    reply = server.post("/v1/completions", asked(model, plugin_samplers={name: setting}))
    assert reply.status_code == status and says in reply.json()["error"]["message"]
    assert server.post("/v1/completions", asked(model)).status_code == 200
