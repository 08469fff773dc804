"""ONNX, TensorRT-LLM, and what is none of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders import (
    hf_tensors,
    llama_config,
    write_genai_folder,
    write_json,
    write_onnx,
    write_safetensors,
    write_tensorrt_folder,
)
from uml.core.errors import BadFile, CorruptFile, MissingShard
from uml.core.model import Format, Role
from uml.formats import inspect

# --- ONNX


def test_a_bare_onnx_file_is_told_by_its_fields(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.bin")
    found = inspect(path)
    assert (found.format, found.version) == (Format.ONNX, "IR 10, opset 21")
    assert found.metadata["producer_name"] == "pytorch"
    assert found.metadata["metadata_props.task"] == "text-generation"
    assert "genai_config.json" in found.notes[0]


def test_weights_beside_an_onnx_file_belong_to_it(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx")
    (tmp_path / "model.onnx_data").write_bytes(bytes(100))
    found = inspect(path)
    assert [file.name for file in found.files] == ["model.onnx", "model.onnx_data"]
    assert found.size_bytes == path.stat().st_size + 100
    assert inspect(tmp_path / "model.onnx") == found


def test_a_truncated_onnx_file_is_reported_with_both_sizes(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx", graph_bytes=1000)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CorruptFile, match="the file has 500 bytes, expected 10"):
        inspect(path)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x08\x0a\x12\x03abc",  # no graph
        b"\x08\x0a\x12\xff\xff\x03abc",  # a producer longer than the file
        b"\x08\x0a\x12\x03abc\x1f\x00",  # a field that a model does not have
        b"\x08\x0a\x12" + b"\xff" * 20,  # a length without an end
        b"\x08\x0a\x28\x05\x12",  # ends in a field
        b"\x08\x0a\x28" + b"\xff" * 9 + b"\x01",  # a negative number, then nothing
        b"\x08\x0a\x12\x01a\xff",  # ends in a tag
        b"\x08\x63\x12\x01a",  # a version that never was
    ],
)
def test_what_begins_like_onnx_and_is_not_is_unknown(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(raw)
    assert inspect(path).format is Format.UNKNOWN


def test_opsets_and_properties_of_other_shapes_are_passed_over(tmp_path: Path) -> None:
    opsets = b"\x42\x04\x0a\x02ai" + b"\x42\x02\x10\x0d" + b"\x42\x00"
    properties = b"\x72\x03abc" + b"\x72\x04\x0a\x01a\x1a" + b"\x72\x06\x0a\x01a\x12\x01b"
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x09" + opsets + properties + b"\x3a\x02\x0a\x00")
    found = inspect(path)
    assert found.version == "IR 9, opset 13" and found.metadata["metadata_props.a"] == "b"


def test_a_genai_folder_is_one_model(tmp_path: Path) -> None:
    found = inspect(write_genai_folder(tmp_path))
    assert (found.format, found.role, found.architecture) == (Format.ONNX_GENAI, Role.TEXT, "llama")
    assert found.context_length == 256
    assert found.shape is not None and found.shape.kv_heads == (2, 2) and found.shape.key_length == 16
    assert found.chat_template == "{{ messages[0].content }}"
    assert {file.name for file in found.files} >= {"model.onnx", "model.onnx.data", "genai_config.json"}
    assert inspect(tmp_path / "model.onnx") == found


def test_a_genai_graph_tells_for_which_tokens_it_makes_scores(tmp_path: Path) -> None:
    folder = write_genai_folder(tmp_path)
    assert inspect(folder).metadata["graph.scores"] == "all"
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"\x12\x1a/lm_head/prune/Gather/output_0")
    assert inspect(folder).metadata["graph.scores"] == "last"


def test_a_broken_genai_folder_is_reported(tmp_path: Path) -> None:
    folder = write_genai_folder(tmp_path)
    (folder / "model.onnx").unlink()
    with pytest.raises(MissingShard, match=r"model\.onnx"):
        inspect(folder)
    write_json(folder / "genai_config.json", {"model": {"decoder": {"filename": "../model.onnx"}}})
    with pytest.raises(MissingShard, match=r"\.\./model\.onnx"):
        inspect(folder)
    write_json(folder / "genai_config.json", {"search": {}})
    with pytest.raises(CorruptFile, match="no section `model`"):
        inspect(folder)
    write_json(folder / "genai_config.json", {"model": {"type": "x"}})
    assert inspect(folder).shape is None


# --- TensorRT-LLM


def test_an_engine_folder_is_one_model(tmp_path: Path) -> None:
    found = inspect(write_tensorrt_folder(tmp_path, ranks=2))
    assert (found.format, found.version, found.architecture) == (Format.TENSORRT_LLM, "1.1.0", "LlamaForCausalLM")
    assert found.quantization is not None and found.quantization.label == "FP8"
    assert found.context_length == 192 and found.weight_bytes == {"F16": 2048}
    assert found.shape is not None and found.shape.kv_heads == (2, 2)
    assert "2 GPUs" in found.notes[0]
    assert inspect(tmp_path / "rank1.engine") == found


def test_a_missing_rank_is_named(tmp_path: Path) -> None:
    folder = write_tensorrt_folder(tmp_path, ranks=3)
    (folder / "rank1.engine").unlink()
    with pytest.raises(MissingShard, match=r"rank1\.engine"):
        inspect(folder)


def test_engines_of_other_builds(tmp_path: Path) -> None:
    folder = write_tensorrt_folder(tmp_path, ranks=2)
    model = {"dtype": "bfloat16", "mapping": {"tp_size": 2, "pp_size": 1}}
    write_json(folder / "config.json", {"pretrained_config": model, "build_config": {"max_seq_len": 1}})
    found = inspect(folder)
    assert found.quantization is not None and found.quantization.label == "BF16"
    assert found.shape is None
    write_json(
        folder / "config.json",
        {"pretrained_config": {"x": 1, "mapping": {"world_size": 10**6}}, "build_config": {"x": 1}},
    )
    with pytest.raises(CorruptFile, match="world_size"):
        inspect(folder)


# --- What is none of them


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"\x80\x04\x95abc", "a Python pickle, which is never loaded"),
        (b'{"a": 1}', "a JSON text"),
        (bytes(100), "zeros"),
        (b"hello\nworld\n", "a text file"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(32), "TensorFlow Lite"),
        (b"\xde\xad\xbe\xef\x00", "no format that is known, beginning with de ad be ef 00"),
        (b"GG", "a text file, beginning with 47 47; a .gguf file begins with 'GGUF'"),
    ],
)
def test_everything_else_is_unknown_with_what_was_seen(tmp_path: Path, raw: bytes, seen: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    found = inspect(path)
    assert (found.format, found.role, found.confidence) == (Format.UNKNOWN, Role.UNKNOWN, 0.0)
    assert seen in found.reason
    assert found.size_bytes == len(raw)


def test_an_engine_file_without_its_configuration_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "rank0.engine").write_bytes(b"\xde\xad\xbe\xef")
    assert inspect(tmp_path / "rank0.engine").format is Format.UNKNOWN


def test_a_file_that_is_no_part_of_the_folders_model_stands_for_itself(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", llama_config())
    write_safetensors(tmp_path / "model.safetensors", hf_tensors())
    other = write_safetensors(tmp_path / "style.safetensors", {"a": ("F32", (2,))})
    assert inspect(other).path == other


def test_what_is_not_there_or_not_readable_is_a_bad_file(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file"):
        inspect(tmp_path / "gone.gguf")
    with pytest.raises(BadFile, match="usable path"):
        inspect(Path("a\0b"))
    with pytest.raises(BadFile, match="cannot be read"):
        inspect(tmp_path / ("x" * 5000))
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(BadFile, match="not a regular file"):
        inspect(tmp_path / "pipe.gguf")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.touch(mode=0)
    with pytest.raises(BadFile, match="permission"):
        inspect(path)
