"""`uml estimate` and `uml inspect` of names on the net, as a user types them; and what a server makes of such names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders import write_hf_folder
from tests.cli.conftest import Uml
from tests.cli.conftest import uml as uml  # the fixture
from tests.installed import without_transformers
from tests.remote.conftest import write_model
from tests.remote.net import Net, served
from uml import models
from uml.cli.names import as_path
from uml.config import Settings
from uml.core.errors import ModelNotFound, NotAllowed
from uml.house import Library
from uml.registry import Registry


@pytest.fixture
def hub(net: Net, monkeypatch: pytest.MonkeyPatch) -> Net:
    monkeypatch.setenv("HF_ENDPOINT", net.url)
    return net


def test_an_estimate_before_the_download_is_the_one_after_it(uml: Uml, hub: Net, tmp_path: Path) -> None:
    path = write_model(tmp_path / "repo" / "m-Q8_0.gguf", "Q8_0", context=4096)
    hub.repository("Some/Model", path.parent)
    wanted = ("--ctx", "1024", "--cache-type-k", "q8_0", "--parallel", "2", "--json")
    local = uml("estimate", path, *wanted).json
    for name in ("hf:Some/Model", "hf:Some/Model:q8_0", f"{hub.url}/Some/Model/resolve/main/m-Q8_0.gguf"):
        remote = uml("estimate", name, *wanted).json
        assert remote["model"].startswith("hf:Some/Model")
        for part in ("total", "parts", "options", "method", "engine", "fits"):
            assert remote[part] == local[part], part
        assert remote["size"] == path.stat().st_size


def test_the_demo_is_asked_for_by_a_dry_run_of_its_header(uml: Uml, net: Net) -> None:
    demo = Path(next(iter(models.__path__))) / "demo.gguf"
    net.files["/x/demo.gguf"] = demo
    local, remote = (uml("estimate", name, "--ctx", "512", "--json").json for name in (demo, f"{net.url}/x/demo.gguf"))
    assert (remote["total"], remote["method"]) == (local["total"], local["method"])


def test_what_goes_with_a_model_may_be_on_the_net_too(uml: Uml, hub: Net) -> None:
    folder = Path(next(iter(models.__path__)))
    hub.repository("Some/Draft", folder)
    hub.files["/x/demo.gguf"] = folder / "demo.gguf"
    wanted = ("--ctx", "512", "--parallel", "2", "--json")

    def told(model: Path | str, draft: Path | str, adapter: Path | str) -> dict[str, Any]:
        found: dict[str, Any] = uml("estimate", model, "--draft-model", draft, "--lora", f"{adapter}=0.5", *wanted).json
        return found

    here = told(folder / "demo.gguf", folder / "demo-draft.gguf", folder / "demo-pirate.gguf")
    draft, adapter = "hf:Some/Draft:demo-draft.gguf", f"{hub.url}/Some/Draft/resolve/main/demo-pirate.gguf"
    for model in (folder / "demo.gguf", f"{hub.url}/x/demo.gguf"):
        there = told(model, draft, adapter)
        for part in ("total", "parts", "method", "warnings"):
            assert there[part] == here[part], part
        assert there["options"]["draft_model"] == "hf:Some/Draft:demo-draft.gguf"
        assert there["options"]["lora"] == ["hf:Some/Draft:demo-pirate.gguf=0.5"]


def test_what_goes_with_a_model_is_one_file_of_the_right_kind(uml: Uml, hub: Net) -> None:
    folder = Path(next(iter(models.__path__)))
    hub.repository("Some/Draft", folder)
    several = uml("estimate", "demo", "--draft-model", "hf:Some/Draft", "--ctx", "512")
    assert several.code == 2
    assert "the name of one file; it means several: hf:Some/Draft:demo" in several.err
    other = uml("estimate", "demo", "--lora", "hf:Some/Draft:demo-draft.gguf=0.5", "--ctx", "512")
    assert "lora is 'hf:Some/Draft:demo-draft.gguf=0.5'; expected the path of an adapter" in other.err


def test_a_repository_of_many_is_listed_with_what_each_takes(uml: Uml, hub: Net, tmp_path: Path) -> None:
    for kind in ("Q4_K", "Q8_0", "F16"):
        write_model(tmp_path / f"m-{kind}.gguf", kind, context=4096)
    write_model(tmp_path / "mmproj-F16.gguf", "F16")
    (tmp_path / "m-Q2_K.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    hub.repository("Some/Model", tmp_path)
    found = uml("estimate", "hf:Some/Model", "--ctx", "1024", "--json").json
    rows = {row["quantization"]: row for row in found["data"]}
    assert list(rows) == ["Q2_K", "Q4_K", "Q8_0", "F16"]
    assert [row["fits"] for row in rows.values()] == [False, True, True, True]
    assert rows["Q4_K"]["total"]["likely"] < rows["F16"]["total"]["likely"]
    assert rows["Q2_K"]["error"]["message"].startswith("hf:Some/Model:m-Q2_K.gguf: ")
    assert (found["best"], found["beside"]) == ("hf:Some/Model:F16", ["mmproj-F16.gguf"])
    said = uml("estimate", "hf:Some/Model", "--ctx", "1024")
    assert said.code == 0
    assert "the largest that fits here: hf:Some/Model:F16" in said.out
    assert [line.split()[0] for line in said.out.splitlines()[1:5]] == list(rows)


def test_what_does_not_fit_says_what_it_needs(
    uml: Uml, hub: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("Q4_K", "F16"):
        write_model(tmp_path / f"m-{kind}.gguf", kind, context=4096)
    hub.repository("Some/Model", tmp_path)
    monkeypatch.setenv("UML_MEMORY_BUDGET", "16MiB")
    found = uml("estimate", "hf:Some/Model", "--ctx", "4096", "--json").json
    assert found["best"] is None
    assert all(row["needed"] > row["free"] for row in found["data"])
    assert "no" in uml("estimate", "hf:Some/Model", "--ctx", "4096").out
    single = uml("estimate", "hf:Some/Model:F16", "--ctx", "4096")
    assert single.code == 5
    assert "hf:Some/Model:F16 needs" in single.err


def test_inspect_tells_what_is_there_and_lists_without_reading(uml: Uml, hub: Net, tmp_path: Path) -> None:
    for kind in ("Q4_K", "Q8_0"):
        write_model(tmp_path / "many" / f"m-{kind}.gguf", kind)
    hub.repository("Some/Many", tmp_path / "many")
    said = uml("inspect", "hf:Some/Many")
    assert "Q4_K" in said.out
    assert "uml inspect hf:Some/Many:Q4_K" in said.out
    assert [asked.path for asked in hub.asked] == ["/api/models/Some/Many/tree/main"]
    one = uml("inspect", "hf:Some/Many:Q8_0", "--json").json
    assert (one["path"], one["files"]) == ("hf:Some/Many:m-Q8_0.gguf", ["hf:Some/Many:m-Q8_0.gguf"])
    hub.repository("Some/Folder", write_hf_folder(tmp_path / "folder", shards=2))
    folder = uml("inspect", "huggingface.co/Some/Folder", "--json").json
    assert (folder["name"], folder["path"], len(folder["files"])) == ("Some/Folder", "hf:Some/Folder", 5)
    assert str(tmp_path) not in str(folder)


def test_errors_speak_of_names_that_the_user_typed(uml: Uml, hub: Net, tmp_path: Path) -> None:
    hub.repository("Some/Folder", write_hf_folder(tmp_path / "folder"))
    none = uml("inspect", "hf:Some/Nothing", "--json")
    assert (none.code, none.error["code"]) == (4, "remote_not_found")
    wrong = uml("estimate", "hf:nobody")
    assert wrong.code == 2
    assert "expected hf:OWNER/NAME" in wrong.err
    unrunnable = uml("estimate", "hf:Some/Folder")
    assert str(tmp_path) not in unrunnable.err


@pytest.mark.parametrize("command", ["inspect", "estimate"])
def test_the_name_of_a_repository_alone_asks_nobody_and_says_how_it_is_meant(uml: Uml, hub: Net, command: str) -> None:
    said = uml(command, "Some/Model:Q4_K_M")
    assert said.code == 4
    assert said.err.strip().endswith("the repository of that name is hf:Some/Model:Q4_K_M")
    assert "hf:" not in uml(command, "some-model").err
    assert "hf:" not in uml(command, "./Some/Model").err
    assert hub.asked == []


def test_offline_is_a_setting_too(uml: Uml, hub: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UML_OFFLINE", "yes")
    said = uml("estimate", "hf:Some/Model", "--json")
    assert (said.code, said.error["code"]) == (1, "offline")
    assert not hub.asked
    monkeypatch.setenv("UML_OFFLINE", "perhaps")
    assert "expected `true` or `false`" in uml("estimate", "hf:Some/Model").err
    assert not Settings.load({"offline": False}, {"UML_OFFLINE": "1"}).offline


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.open(Settings(data=tmp_path / "own", runtime=tmp_path / "run"))


def test_a_server_fetches_nothing_for_those_who_ask_it(library: Library, hub: Net) -> None:
    for name in (f"{hub.url}/m.gguf", "hf:Some/Model", "hf.co/Some/Model:Q8_0", "http://169.254.169.254/latest"):
        for ask in (library.find, library.look, library.inspect):
            with pytest.raises(NotAllowed, match="on the command line"):
                ask(name)
        with pytest.raises(NotAllowed):
            library.estimate(name, {})
    with pytest.raises(ModelNotFound):
        library.look("hf:nobody")
    assert not hub.asked
    library.registry.close()


def test_an_address_is_no_path_of_this_machine(uml: Uml, library: Library, tmp_path: Path) -> None:
    refused = uml("estimate", "ftp://h.example/m.gguf")
    assert refused.code == 2 and "begins with ftp://, which is not read; expected https://HOST/PATH" in refused.err
    for name in ("ftp://h.example/m.gguf", "file:///m.gguf"):
        assert as_path(name) is None
        with pytest.raises(ModelNotFound, match="no model is called"):
            library.find(name)
    assert as_path(f"./a://{tmp_path.name}.gguf") is not None
    library.registry.close()


def test_what_ollama_calls_so_is_the_one_on_this_machine(uml: Uml, hub: Net, tmp_path: Path) -> None:
    import hashlib
    import json
    import os

    store = Path(os.environ["HOME"]) / ".ollama" / "models"
    model = write_model(tmp_path / "m.gguf", "Q8_0")
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    (store / "blobs").mkdir(parents=True)
    model.rename(store / "blobs" / f"sha256-{digest}")
    manifest = store / "manifests" / "hf.co" / "some" / "model" / "Q8_0"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": 1}
    manifest.write_text(json.dumps({"layers": [layer]}))
    assert uml("scan").code == 0
    assert uml("inspect", "hf.co/some/model:Q8_0", "--json").json["path"].startswith(str(store))
    assert not hub.asked


def test_the_registry_is_left_alone(uml: Uml, net: Net, tmp_path: Path) -> None:
    net.files["/x/m.gguf"] = write_model(tmp_path / "m.gguf")
    assert uml("estimate", f"{net.url}/x/m.gguf", "--ctx", "256").code == 0
    registry = Registry(uml.data / "registry.sqlite")
    assert not any(model.source == "net" for model in registry.models())
    registry.close()


def test_another_machines_server_is_not_what_it_is_estimated_for(uml: Uml, net: Net, tmp_path: Path) -> None:
    net.files["/x/m.gguf"] = write_model(tmp_path / "m.gguf")
    with served() as other:
        said = uml("estimate", f"{net.url}/x/m.gguf", "--ctx", "256", "--server", other.url)
        assert f"for this machine, not for that of {other.url}" in said.out
        assert not other.asked


@without_transformers
def test_what_no_engine_here_runs_has_figures_before_and_after_the_download(uml: Uml, hub: Net, tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path / "repo")
    hub.repository("Some/Weights", folder)
    local, remote = (uml("estimate", name, "--ctx", "128", "--json").json for name in (folder, "hf:Some/Weights"))
    for part in ("total", "parts", "options", "resident", "needs"):
        assert remote[part] == local[part], part
    assert (remote["engine"], remote["fits"], remote["method"]) == (None, True, "header")
    assert remote["needs"].startswith("Transformers or vLLM runs it")
    told = uml("estimate", folder).out
    assert "none installed; Transformers or vLLM runs it" in told and "once used" in told
