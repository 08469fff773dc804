"""`uml inspect`: which engine, why, and what it can do there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import llama_config, write_hf_folder, write_tiny_gguf
from tests.cli.conftest import Uml
from tests.installed import without_transformers


def test_inspect_tells_the_engine_and_why(uml: Uml, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    plain = uml("inspect", path).out
    assert "llamacpp" in plain and "llama.cpp runs gguf" in plain and "json schema" not in plain
    told = uml("inspect", path, "--json").json["runs_on"]
    assert (told["engine"], told["installed"]) == ("llamacpp", True) and "parameters" not in told


def test_inspect_tells_what_it_can_do(uml: Uml, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    shown = uml("inspect", path, "--capabilities").out
    for words in ("Abilities", "json schema", "Samplers", "honoured", "mirostat_mode", "top_a", "Load options"):
        assert words in shown
    matrix = uml("inspect", path, "--capabilities", "--json").json["runs_on"]
    assert matrix["abilities"]["logprobs"]["can"] and not matrix["parameters"]["top_a"]["can"]


def test_an_engine_of_the_settings_is_the_choice(uml: Uml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setenv("UML_ENGINE", "fake")
    told = uml("inspect", path, "--json").json["runs_on"]
    assert told["engine"] == "fake" and "was asked for" in told["reason"]


@without_transformers
def test_what_nothing_installed_runs_says_so(uml: Uml, tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path / "hf", llama_config())
    told = uml("inspect", folder, "--json").json["runs_on"]
    assert not told["installed"] and told["reason"]
