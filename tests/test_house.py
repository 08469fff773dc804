"""What can be told about models without starting anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import write_tiny_gguf
from uml.config import Settings
from uml.core.errors import BadOption, CorruptFile, ModelNotFound, UnknownField
from uml.house import House, Library, path_in


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # Sockets want short paths, so the runtime folder is the system's.
    return Settings.load({"data": str(tmp_path / "data")}, {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})


@pytest.fixture
def library(settings: Settings) -> Iterator[Library]:
    opened = Library.open(settings)
    yield opened
    opened.registry.close()


@pytest.mark.parametrize(
    ("name", "is_path"),
    [
        ("demo", False),
        ("Qwen/Qwen2.5-0.5B", False),
        ("llama3.2:1b", False),
        ("/models/x", True),
        ("./x", True),
        ("x.gguf", True),
        ("~/x", True),
        ("x/" * 3000, False),
    ],
)
def test_paths_are_told_from_names(name: str, is_path: bool) -> None:
    assert (path_in(name) is not None) == is_path


def test_a_path_that_exists_is_one_without_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "llama").mkdir(parents=True)
    assert path_in("models/llama") == tmp_path / "models" / "llama"


def test_an_estimate_says_how_much_and_where_and_starts_nothing(library: Library) -> None:
    found = library.estimate("demo", {"ctx": 1024, "parallel": 2})
    assert found["total"]["low"] <= found["total"]["likely"] <= found["total"]["high"]
    assert sum(found["parts"].values()) == found["total"]["likely"]
    assert found["engine"] == "llamacpp"
    more = library.estimate("demo", {"ctx": 2048, "parallel": 2})
    assert more["parts"]["kv_cache"] == 2 * found["parts"]["kv_cache"]


def test_an_estimate_of_a_file_leaves_the_registry_alone(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "stranger.gguf"
    write_tiny_gguf(path)
    assert library.estimate(str(path), {})["model"] == "stranger"
    with pytest.raises(ModelNotFound):
        library.find("stranger")
    assert library.find(str(path)).id == "stranger"
    assert library.find("stranger").info.path == path


def test_bad_options_and_bad_files_are_told_apart(library: Library, tmp_path: Path) -> None:
    with pytest.raises(UnknownField, match="ctx"):
        library.estimate("demo", {"ctxx": 1})
    with pytest.raises(BadOption, match="2048"):
        library.estimate("demo", {"ctx": 100_000})
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\0\0\0garbage")
    with pytest.raises(CorruptFile, match=r"broken\.gguf"):
        library.inspect(str(broken))


def test_what_goes_with_a_model_is_counted(library: Library) -> None:
    path = str(library.find("demo").info.path)
    alone = library.estimate("demo", {"ctx": 512})
    guessing = library.estimate("demo", {"ctx": 512, "draft_model": path})
    assert guessing["parts"]["other"] > alone["parts"]["other"]
    assert not guessing["warnings"]


async def test_a_house_describes_a_model_with_the_state_of_its_worker(settings: Settings) -> None:
    async with House.open(settings) as house:
        model = house.library.find("demo")
        assert house.describe(model)["state"] == "unloaded"
        status = await house.supervisor.load(model)
        described = house.describe(model)
        assert (described["state"], described["engine"]) == ("ready", "llamacpp")
        assert described["context_length"] == status.context_length
