"""Folders -> what is worth inspecting, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import (
    hf_tensors,
    llama_config,
    write_genai_folder,
    write_hf_folder,
    write_json,
    write_legacy,
    write_onnx,
    write_pytorch,
    write_safetensors,
    write_split_gguf,
    write_tensorrt_folder,
    write_tiny_gguf,
)
from uml.core.errors import BadFile
from uml.formats import candidates


def found(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in candidates(folder)]


def test_every_model_is_found_once(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "a.GGUF")
    write_split_gguf(tmp_path, "split", parts=3)
    write_legacy(tmp_path / "old.bin")
    write_onnx(tmp_path / "bare.onnx")
    write_hf_folder(tmp_path / "hf", shards=3)
    write_genai_folder(tmp_path / "genai")
    write_tensorrt_folder(tmp_path / "engine")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write_tiny_gguf(tmp_path / "deep" / "er" / "b.gguf")
    (tmp_path / "notes.txt").write_text("no model")
    write_pytorch(tmp_path / "weights.bin")
    assert found(tmp_path) == [
        "a.GGUF",
        "split-00001-of-00003.gguf",
        "bare.onnx",
        "old.bin",
        "deep/er/b.gguf",
        "engine",
        "genai",
        "hf",
    ]


def test_of_a_split_file_the_first_part_that_is_there_is_given(tmp_path: Path) -> None:
    write_split_gguf(tmp_path, parts=3)[0].unlink()
    assert found(tmp_path) == ["tiny-00002-of-00003.gguf"]


def test_hidden_folders_and_unfinished_downloads_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    for name in (".cache/a.gguf", ".hidden.gguf", "a.gguf.part", "b.gguf.incomplete", "c.gguf.tmp"):
        write_tiny_gguf(tmp_path / name)
    assert found(tmp_path) == []


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    write_tiny_gguf(inner / "a.gguf")
    (inner / "up").symlink_to(tmp_path)
    (inner / "self").symlink_to(inner)
    (tmp_path / "again.gguf").symlink_to(inner / "a.gguf")
    (tmp_path / "dangling.gguf").symlink_to(tmp_path / "gone")
    (tmp_path / "other").symlink_to(inner)
    assert found(tmp_path) == ["again.gguf"]


def test_the_depth_is_bounded(tmp_path: Path) -> None:
    shallow, deep = tmp_path / "/".join("abcdefgh"), tmp_path / "/".join("abcdefghi")
    deep.mkdir(parents=True)
    write_tiny_gguf(shallow / "seen.gguf")
    write_tiny_gguf(deep / "unseen.gguf")
    assert [path.name for path in candidates(tmp_path)] == ["seen.gguf"]


def test_a_folder_with_gguf_files_is_those_and_its_subfolders(tmp_path: Path) -> None:
    write_hf_folder(tmp_path)
    write_tiny_gguf(tmp_path / "a.gguf")
    (tmp_path / "Q8_0").mkdir()
    write_tiny_gguf(tmp_path / "Q8_0" / "b.gguf")
    (tmp_path / "model.safetensors").unlink()
    assert found(tmp_path) == ["a.gguf", "Q8_0/b.gguf"]


def test_weights_of_a_folder_with_gguf_files_are_not_given_bare(tmp_path: Path) -> None:
    write_hf_folder(tmp_path)
    write_tiny_gguf(tmp_path / "a.gguf")
    assert found(tmp_path) == ["a.gguf"]


def test_a_configuration_without_weights_is_no_model(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", llama_config())
    (tmp_path / "inner").mkdir()
    write_tiny_gguf(tmp_path / "inner" / "a.gguf")
    assert found(tmp_path) == ["inner/a.gguf"]


def test_the_modules_of_a_sentence_transformer_are_one_model(tmp_path: Path) -> None:
    entries = [{"path": "0_Transformer", "type": "t"}, {"path": "2_Dense", "type": "t"}]
    for name in ("mine", "other"):
        write_hf_folder(tmp_path / name / "0_Transformer")
        write_hf_folder(tmp_path / name / "2_Dense")
    write_json(tmp_path / "mine" / "modules.json", entries)
    write_json(tmp_path / "other" / "modules.json", {"name": "of another program"})
    assert found(tmp_path) == ["mine", "other/0_Transformer", "other/2_Dense"]


def test_the_parts_of_an_image_pipeline_are_passed_over(tmp_path: Path) -> None:
    write_json(tmp_path / "model_index.json", {"_class_name": "FluxPipeline"})
    write_hf_folder(tmp_path / "text_encoder")
    assert found(tmp_path) == []


def test_bare_weights_are_given_once_for_all_shards(tmp_path: Path) -> None:
    for number in (1, 2):
        write_safetensors(tmp_path / f"model-0000{number}-of-00002.safetensors", hf_tensors())
    (tmp_path / "blocked.bin").mkdir()
    assert found(tmp_path) == ["model-00001-of-00002.safetensors"]


def test_a_folder_that_is_not_there_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file or folder"):
        candidates(tmp_path / "gone")
    with pytest.raises(BadFile, match="usable path"):
        candidates(Path("a\0b"))
    write_tiny_gguf(tmp_path / "a.gguf")
    with pytest.raises(BadFile):
        candidates(tmp_path / "a.gguf")


def test_a_model_folder_is_its_own_candidate(tmp_path: Path) -> None:
    assert list(candidates(write_hf_folder(tmp_path))) == [tmp_path]
