"""Other programs' folders are read where they lie."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry.conftest import ONE, gguf
from uml.core.errors import AmbiguousModel, BadFile
from uml.registry import Registry, ScanReport, Shelf, packaged_model
from uml.registry.sources import discover, discover_here


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def registry(tmp_path: Path, home: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "r.sqlite", shelves=lambda: discover({}, home, home / "system"), package=ONE) as opened:
        yield opened


class Hub:
    """A Hugging Face cache as huggingface_hub lays it out: blobs, and snapshots of links."""

    def __init__(self, home: Path) -> None:
        self.folder = home / ".cache" / "huggingface" / "hub"

    def repository(self, name: str) -> Path:
        return self.folder / f"models--{name.replace('/', '--')}"

    def main(self, name: str, revision: str) -> None:
        reference = self.repository(name) / "refs" / "main"
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(revision)

    def put(self, name: str, revision: str, path: str, content: bytes) -> Path:
        blob = self.repository(name) / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = self.repository(name) / "snapshots" / revision / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
        return link


def model_bytes(tmp_path: Path, name: str = "x", **metadata: object) -> bytes:
    return gguf(tmp_path / "scratch" / "x.gguf", name=name, **metadata).read_bytes()


def test_a_hub_cache_is_read_in_place(registry: Registry, home: Path, tmp_path: Path) -> None:
    hub = Hub(home)
    for revision in ("aaa", "bbb"):
        for label in ("Q8_0", "Q4_0"):
            hub.put("TheOrg/Yi-GGUF", revision, f"Yi-{label}.gguf", model_bytes(tmp_path, label + revision))
    hub.main("TheOrg/Yi-GGUF", "aaa\n")
    report = registry.rescan()
    assert report == ScanReport(added=("yi-q4_0", "yi-q8_0"))
    model = registry.resolve("yi-q8_0")
    assert (model.source, model.info.path.parent.name) == ("huggingface", "aaa")
    assert model.info.path.is_symlink()
    assert registry.resolve(os.path.realpath(model.info.path)) == model
    with pytest.raises(AmbiguousModel, match="choose one: yi-q4_0, yi-q8_0"):
        registry.resolve("TheOrg/Yi-GGUF")
    for name in ("TheOrg/Yi-GGUF:Q4_0", "hf.co/TheOrg/Yi-GGUF:q4_0", "https://huggingface.co/TheOrg/Yi-GGUF:Q4_0"):
        assert registry.resolve(name).id == "yi-q4_0", "by its name, for the header says Q8_0 of both"

    hub.main("TheOrg/Yi-GGUF", "bbb")
    assert registry.rescan().changed == ("yi-q4_0", "yi-q8_0")
    assert registry.resolve("yi-q8_0").info.path.parent.name == "bbb"
    assert registry.rescan().unchanged == ("yi-q4_0", "yi-q8_0")


def test_what_only_another_revision_has_is_found_there(registry: Registry, home: Path, tmp_path: Path) -> None:
    hub = Hub(home)
    hub.put("a/b", "old", "x-Q8_0.gguf", model_bytes(tmp_path, "x"))
    hub.put("a/b", "old", "y-Q8_0.gguf", model_bytes(tmp_path, "y"))
    hub.put("a/b", "new", "y-Q8_0.gguf", model_bytes(tmp_path, "yy"))
    hub.main("a/b", "new")
    assert registry.rescan().added == ("y-q8_0", "x-q8_0")
    assert [registry.resolve(id).info.path.parent.name for id in ("x-q8_0", "y-q8_0")] == ["old", "new"]
    hub.main("a/b", "never-downloaded")
    assert registry.rescan().vanished == ()


def test_a_repository_with_one_file_goes_by_its_name_and_quantization(
    registry: Registry, home: Path, tmp_path: Path
) -> None:
    hub = Hub(home)
    hub.put("TheOrg/Yi-GGUF", "aaa", "sub/Yi.gguf", model_bytes(tmp_path))
    assert registry.rescan().added == ("yi",)
    for name in ("TheOrg/Yi-GGUF", "theorg/yi-gguf:q8_0"):
        assert registry.resolve(name).id == "yi"


def test_a_repository_that_is_one_model_is_called_by_its_name(registry: Registry, home: Path) -> None:
    source = packaged_model("demo-safetensors")
    hub = Hub(home)
    for file in source.iterdir():
        hub.put("TheOrg/Tiny-Chat", "abc", file.name, file.read_bytes())
    hub.main("TheOrg/Tiny-Chat", "abc")
    assert registry.rescan().added == ("tiny-chat",)
    model = registry.resolve("TheOrg/Tiny-Chat")
    assert (model.id, model.info.name) == ("tiny-chat", "TheOrg/Tiny-Chat")


def test_without_a_main_the_newest_revision_is_taken(registry: Registry, home: Path, tmp_path: Path) -> None:
    hub = Hub(home)
    for revision, time in (("old", 1), ("new", 2)):
        hub.put("gpt2", revision, "g.gguf", model_bytes(tmp_path, revision))
        os.utime(hub.repository("gpt2") / "snapshots" / revision, (time, time))
    registry.rescan()
    assert registry.resolve("gpt2").info.path.parent.name == "new"
    shutil.rmtree(hub.repository("gpt2") / "snapshots")
    assert registry.rescan().vanished == ("g",)


def test_a_reference_may_not_lead_out_of_the_cache(registry: Registry, home: Path, tmp_path: Path) -> None:
    hub = Hub(home)
    gguf(hub.repository("a/b") / "outside" / "x.gguf")
    for revision in ("../outside", "..", "", "x" * 1000):
        hub.main("a/b", revision)
        report = registry.rescan()
        assert report.added == ()
        assert "expected a commit or a branch" in report.unreadable[0][1]
    hub.main("a/b", "not-downloaded")
    assert registry.rescan() == ScanReport()


def test_lm_studio_is_read_in_place(registry: Registry, home: Path) -> None:
    for folder in (".lmstudio/models", ".cache/lm-studio/models"):
        gguf(home / folder / "TheOrg" / "Yi-GGUF" / f"Yi-{folder[1]}-Q8_0.gguf")
    gguf(home / ".lmstudio/models/loose.gguf")
    source = packaged_model("demo-safetensors")
    shutil.copytree(source, home / ".lmstudio/models/mlx/Tiny")
    assert sorted(registry.rescan().added) == ["loose", "tiny", "yi-c-q8_0", "yi-l-q8_0"]
    assert registry.resolve("yi-l").source == "lmstudio"
    assert registry.resolve("mlx/Tiny").id == "tiny"
    with pytest.raises(AmbiguousModel):
        registry.resolve("TheOrg/Yi-GGUF")


class Ollama:
    """An Ollama store: manifests and blobs."""

    def __init__(self, home: Path) -> None:
        self.folder = home / ".ollama" / "models"

    def blob(self, content: bytes | str | Any) -> str:
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        digest = hashlib.sha256(content).hexdigest()
        path = self.folder / "blobs" / f"sha256-{digest}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"sha256:{digest}"

    def manifest(self, name: str, content: object) -> Path:
        path = self.folder / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def put(self, name: str, **layers: object) -> Path:
        return self.manifest(
            name,
            {
                "schemaVersion": 2,
                "config": {"digest": self.blob("{}")},
                "layers": [
                    {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": self.blob(content), "size": 1}
                    for kind, content in layers.items()
                ],
            },
        )


LIBRARY = "registry.ollama.ai/library"


def test_ollama_is_read_in_place_with_its_names(registry: Registry, home: Path, tmp_path: Path) -> None:
    ollama = Ollama(home)
    small, large = model_bytes(tmp_path, "Llama small"), model_bytes(tmp_path, "Llama large")
    ollama.put(f"{LIBRARY}/llama3.2/1b", model=small, license="words", template="{{ .Prompt }}", system="Be kind.")
    ollama.put(f"{LIBRARY}/llama3.2/latest", model=large, params={"temperature": 0.5, "stop": ["</s>"]})
    ollama.put("registry.ollama.ai/jo/yi/latest", model=model_bytes(tmp_path, "Jo's"))
    ollama.put("hf.co/TheOrg/Yi-GGUF/Q8_0", model=model_bytes(tmp_path, "Org's"))
    assert sorted(registry.rescan().added) == ["llama3.2", "llama3.2-1b", "yi", "yi-gguf-q8_0"]
    one = registry.resolve("llama3.2:1b")
    assert (one.id, one.source, one.aliases) == ("llama3.2-1b", "ollama", ("llama3.2:1b", "llama-small"))
    assert one.info.path.read_bytes() == small
    assert one.info.metadata["ollama.template"] == "{{ .Prompt }}"
    assert one.info.metadata["ollama.system"] == "Be kind."
    latest = registry.resolve("llama3.2")
    assert latest.id == registry.resolve("llama3.2:latest").id == "llama3.2"
    assert latest.info.metadata["ollama.params.temperature"] == 0.5
    assert latest.info.metadata["ollama.params.stop"] == '["</s>"]'
    assert registry.resolve("jo/yi").id == "yi"
    assert registry.resolve("hf.co/TheOrg/Yi-GGUF:Q8_0").id == "yi-gguf-q8_0"
    assert len(registry.rescan().unchanged) == 4


def test_names_for_the_same_layers_are_one_model_and_other_layers_another(
    registry: Registry, home: Path, tmp_path: Path
) -> None:
    ollama = Ollama(home)
    weights = model_bytes(tmp_path)
    ollama.put(f"{LIBRARY}/yi/6b", model=weights)
    ollama.put(f"{LIBRARY}/yi/latest", model=weights)
    ollama.put(f"{LIBRARY}/pirate/latest", model=weights, system="Arr.")
    assert sorted(registry.rescan().added) == ["pirate", "yi-6b"]
    assert registry.resolve("yi").id == registry.resolve("yi:latest").id == registry.resolve("yi:6b").id == "yi-6b"
    assert registry.resolve("pirate").info.metadata["ollama.system"] == "Arr."
    assert len(registry.rescan().unchanged) == 2


def test_a_new_pull_changes_the_model_under_its_id(registry: Registry, home: Path, tmp_path: Path) -> None:
    ollama = Ollama(home)
    ollama.put(f"{LIBRARY}/yi/6b", model=model_bytes(tmp_path, context=256))
    registry.rescan()
    old = registry.resolve("yi:6b").info.path
    ollama.put(f"{LIBRARY}/yi/6b", model=model_bytes(tmp_path, context=512))
    old.unlink()
    with pytest.raises(BadFile, match="it is gone"):
        registry.fresh(registry.resolve("yi:6b"))
    assert registry.rescan().added == ("yi-6b",)
    assert registry.resolve("yi:6b").info.context_length == 512
    ollama.put(f"{LIBRARY}/yi/6b", model=model_bytes(tmp_path, context=512), system="New.")
    assert registry.rescan().changed == ("yi-6b",)
    assert registry.resolve("yi-6b").info.metadata["ollama.system"] == "New."


def test_a_projector_is_noted(registry: Registry, home: Path, tmp_path: Path) -> None:
    ollama = Ollama(home)
    ollama.put(
        f"{LIBRARY}/llava/latest",
        model=model_bytes(tmp_path, general__name=None),
        projector=b"x",
        params="not json",
        system=b"\xff",
    )
    registry.rescan()
    info = registry.resolve("llava").info
    assert info.name == "llava"
    blob = str(ollama.folder / "blobs" / ollama.blob(b"x").replace(":", "-"))
    assert info.metadata["ollama.projector"] == blob
    assert any(blob in note for note in info.notes)
    assert not {"ollama.system", "ollama.params"} & set(info.metadata)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "not JSON"),
        ("[]", "no list of layers"),
        ({"layers": {}}, "no list of layers"),
        ({"layers": [{}] * 1001}, "no list of layers"),
        ({"layers": [7]}, "a layer with the digest None"),
        (
            {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x"}]},
            "64 hex digits",
        ),
        ({"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{'a' * 63}/"}]}, "64 hex"),
        ({"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{'a' * 64}\n"}]}, "64 hex"),
        (
            {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{'a' * 64}"}]},
            "not there",
        ),
        ({"layers": []}, "names 0 model files"),
        (" " * (2 << 20), "at most 1 MiB"),
    ],
)
def test_a_manifest_from_a_stranger_is_told_and_does_no_harm(
    registry: Registry, home: Path, tmp_path: Path, content: object, sentence: str
) -> None:
    ollama = Ollama(home)
    bad = ollama.manifest(f"{LIBRARY}/bad/latest", content)
    ollama.put(f"{LIBRARY}/good/latest", model=model_bytes(tmp_path))
    report = registry.rescan()
    assert report.added == ("good",)
    ((path, message),) = report.unreadable
    assert path == str(bad)
    assert sentence in message


def test_a_users_own_folder_does_not_double_what_a_source_has(registry: Registry, home: Path, tmp_path: Path) -> None:
    hub = Hub(home)
    hub.put("TheOrg/Yi", "aaa", "Yi.gguf", model_bytes(tmp_path))
    assert registry.scan(hub.folder).added == ("yi",)
    assert registry.resolve("yi").source == "folder"
    assert registry.rescan().unreadable == ()
    model = registry.resolve("TheOrg/Yi")
    assert (model.id, model.source) == ("yi", "huggingface")
    assert registry.rescan() == registry.scan(hub.folder) == ScanReport(unchanged=("yi",))


def test_a_file_taken_out_of_a_cache_keeps_its_id(registry: Registry, home: Path, tmp_path: Path) -> None:
    hub = Hub(home)
    link = hub.put("TheOrg/Yi", "aaa", "Yi.gguf", model_bytes(tmp_path))
    registry.rescan()
    (tmp_path / "mine").mkdir()
    Path(os.path.realpath(link)).rename(tmp_path / "mine" / "yi.gguf")
    assert registry.scan(tmp_path / "mine").moved == ("yi",)
    assert registry.resolve("yi").source == "folder"


def test_a_removed_model_of_a_source_stays_away(registry: Registry, home: Path, tmp_path: Path) -> None:
    Ollama(home).put(f"{LIBRARY}/yi/6b", model=model_bytes(tmp_path))
    registry.rescan()
    registry.remove("yi:6b")
    assert registry.rescan() == ScanReport()


def test_where_the_shelves_are_is_told_by_the_environment(home: Path, tmp_path: Path) -> None:
    def made(*folders: Path) -> None:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)

    system = tmp_path / "system"
    assert discover({}, home, system) == ()
    made(home / ".cache/huggingface/hub", home / ".lmstudio/models", home / ".ollama/models")
    made(system / "usr/share/ollama/.ollama/models")
    assert [(shelf.source, shelf.folder) for shelf in discover({}, home, system)] == [
        ("huggingface", home / ".cache/huggingface/hub"),
        ("lmstudio", home / ".lmstudio/models"),
        ("ollama", home / ".ollama/models"),
        ("ollama", system / "usr/share/ollama/.ollama/models"),
    ]
    made(home / "hf/hub", tmp_path / "cache", tmp_path / "xdg/huggingface/hub", home / "oll")
    hub = {"HF_HOME": "~/hf", "OLLAMA_MODELS": "~/oll"}
    assert discover(hub, home, system) == (
        Shelf("huggingface", home / "hf/hub"),
        Shelf("lmstudio", home / ".lmstudio/models"),
        Shelf("ollama", home / "oll"),
    )
    assert discover({**hub, "HF_HUB_CACHE": str(tmp_path / "cache")}, home)[0].folder == tmp_path / "cache"
    assert discover({"XDG_CACHE_HOME": str(tmp_path / "xdg")}, home)[0].folder == tmp_path / "xdg/huggingface/hub"


def test_the_shelves_of_this_user_are_found_by_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    (home / ".lmstudio/models").mkdir(parents=True)
    assert Shelf("lmstudio", home / ".lmstudio/models") in discover_here()


def test_a_user_without_a_home_has_no_shelves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert discover_here() == ()
