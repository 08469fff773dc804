"""GGUF through the front door."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

import uml
from tests.builders import (
    Tensor,
    Typed,
    gguf_header,
    llama_metadata,
    llama_tensors,
    write_gguf,
    write_split_gguf,
    write_tiny_gguf,
)
from uml.core.errors import BadFile, CorruptFile, MissingShard, UnsupportedFormat
from uml.core.model import Format, ModelInfo, Role
from uml.formats import inspect

DEMO = Path(uml.__file__).parent / "models" / "demo.gguf"


def gguf(folder: Path, tensors: dict[str, Tensor] | None = None, **metadata: Any) -> ModelInfo:
    path = folder / "model.gguf"
    return inspect(write_gguf(path, llama_metadata(**metadata), llama_tensors() if tensors is None else tensors))


def test_the_demo_model_is_what_it_is_known_to_be() -> None:
    found = inspect(DEMO)
    assert (found.format, found.role, found.version, found.confidence) == (Format.GGUF, Role.TEXT, "GGUF v3", 1.0)
    assert found.quantization is not None and found.quantization.label == "Q8_0"
    assert found.parameters == 5_233_920
    assert found.size_bytes == DEMO.stat().st_size
    assert sum(found.weight_bytes.values()) < found.size_bytes
    assert found.shape is not None and found.shape.vocabulary == 2000
    assert found.chat_template is not None and "tool_call" in found.chat_template
    assert found.notes == ()


def test_everything_a_planner_needs_is_read(tmp_path: Path) -> None:
    found = inspect(write_tiny_gguf(tmp_path / "model.gguf"))
    assert found.name == "Tiny Llama" and found.architecture == "llama"
    assert found.context_length == 256
    assert found.shape is not None
    assert found.shape.kv_heads == (2, 2) and found.shape.key_length == found.shape.value_length == 16
    assert found.shape.vocabulary == 32 and found.shape.sliding_window is None
    assert found.weight_bytes == {"Q8_0": 80512, "F32": 1280}
    assert found.chat_template == "{{ messages[0].content }}"
    assert found.metadata["llama.block_count"] == 2
    assert "tokenizer.ggml.tokens" not in found.metadata and "tokenizer.chat_template" not in found.metadata


def test_the_format_is_told_from_the_bytes_and_not_from_the_name(tmp_path: Path) -> None:
    assert inspect(write_tiny_gguf(tmp_path / "sha256-0123")).format is Format.GGUF


@pytest.mark.parametrize("version", [2, 3])
def test_versions_2_and_3_are_read(tmp_path: Path, version: int) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama_metadata(), llama_tensors(), version=version)
    assert inspect(path).version == f"GGUF v{version}"


def test_big_endian_files_are_read_and_the_user_is_told(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama_metadata(), llama_tensors(), order=">")
    found = inspect(path)
    assert found.version == "GGUF v3 big endian" and found.context_length == 256
    assert any("big endian" in note for note in found.notes)


def test_version_1_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama_metadata(), version=1)
    with pytest.raises(UnsupportedFormat, match="GGUF version 1"):
        inspect(path)


def test_a_version_of_the_future_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama_metadata(), version=4)
    with pytest.raises(UnsupportedFormat, match="GGUF version 4; versions 2 and 3 are known"):
        inspect(path)


def test_a_truncated_file_is_reported_with_both_sizes(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf")
    whole = inspect(path)
    with path.open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(CorruptFile, match=r"the file has 20000 bytes, expected \d+, where its tensors end") as caught:
        inspect(path)
    assert str(whole.size_bytes) in str(caught.value)
    assert caught.value.path == path
    for left in (30, 100):  # within the header, which promises more than is there
        with path.open("r+b") as file:
            file.truncate(left)
        with pytest.raises(CorruptFile, match=r"it is truncated.*download it again"):
            inspect(path)


@pytest.mark.parametrize("size", [4, 7, 8, 20, 24, 60, 500])
def test_a_file_that_ends_in_its_header_is_corrupt(tmp_path: Path, size: int) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CorruptFile):
        inspect(path)


# --- Split files


def test_parts_are_one_model(tmp_path: Path) -> None:
    whole = inspect(write_tiny_gguf(tmp_path / "whole.gguf"))
    parts = write_split_gguf(tmp_path, parts=3)
    for part in parts:
        found = inspect(part)
        assert found.path == parts[0] and list(found.files) == parts
        assert found.parameters == whole.parameters and found.weight_bytes == whole.weight_bytes
        assert found.size_bytes == sum(file.stat().st_size for file in parts)
        assert found.shape == whole.shape
        assert "3 parts" in found.reason


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_part_is_named(tmp_path: Path, gone: int) -> None:
    parts = write_split_gguf(tmp_path, parts=3)
    parts[gone].unlink()
    with pytest.raises(MissingShard, match=parts[gone].name):
        inspect(parts[(gone + 1) % 3])


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    part = write_split_gguf(tmp_path)[1].rename(tmp_path / "renamed.gguf")
    with pytest.raises(BadFile, match="part 2 of 3"):
        inspect(part)


def test_a_part_in_the_place_of_another_is_corrupt(tmp_path: Path) -> None:
    parts = write_split_gguf(tmp_path)
    parts[2].write_bytes(parts[1].read_bytes())
    with pytest.raises(CorruptFile, match=r"split\.no is 1"):
        inspect(parts[0])
    with pytest.raises(CorruptFile, match="part 2 of 3"):
        inspect(parts[2])


def test_parts_of_different_splits_are_corrupt(tmp_path: Path) -> None:
    parts = write_split_gguf(tmp_path)
    split = {"split.no": Typed("u16", 2), "split.count": Typed("u16", 3)}
    write_gguf(parts[2], split, {"other.weight": Tensor("F32", (4,))})
    with pytest.raises(CorruptFile, match=r"split\.tensors\.count is 20"):
        inspect(parts[0])


def test_an_absurd_number_of_parts_is_refused(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model-00001-of-60000.gguf", split__count=60_000)
    with pytest.raises(CorruptFile, match=r"split\.count is 60000"):
        inspect(path)


def test_a_whole_model_that_is_named_as_a_part_is_read_with_a_note(tmp_path: Path) -> None:
    found = inspect(write_tiny_gguf(tmp_path / "model-00001-of-00002.gguf"))
    assert any("part 1 of 2" in note for note in found.notes)
    # Numbers that cannot be are no part's name.
    assert inspect(write_tiny_gguf(tmp_path / "model-00003-of-00002.gguf")).notes == ()


# --- Roles


@pytest.mark.parametrize(
    ("metadata", "role"),
    [
        ({"architecture": "llama"}, Role.TEXT),
        ({"architecture": "bert"}, Role.EMBEDDING),
        ({"architecture": "nomic-bert"}, Role.EMBEDDING),
        ({"architecture": "qwen3", "qwen3__pooling_type": 3}, Role.EMBEDDING),
        ({"architecture": "qwen3", "qwen3__pooling_type": 4}, Role.RERANKER),
        ({"architecture": "clip"}, Role.PROJECTOR),
        ({"general__type": "mmproj"}, Role.PROJECTOR),
        ({"general__type": "adapter"}, Role.ADAPTER),
        ({"general__type": "imatrix"}, Role.UNKNOWN),
        ({"architecture": "controlvector"}, Role.UNKNOWN),
        ({"architecture": "eagle3"}, Role.DRAFT),
        ({"architecture": "dflash"}, Role.DRAFT),
        ({"architecture": "wavtokenizer-dec"}, Role.UNKNOWN),
        ({"architecture": "flux", "layers": 0, "tokenizer__ggml__model": None}, Role.UNKNOWN),
    ],
)
def test_the_role_is_told_from_the_metadata(tmp_path: Path, metadata: dict[str, Any], role: Role) -> None:
    found = gguf(tmp_path, **metadata)
    assert found.role is role
    assert found.reason


@pytest.mark.parametrize(
    ("tensor", "architecture", "role"),
    [
        ("cls.output.weight", "bert", Role.RERANKER),
        ("cls.weight", "bert", Role.RERANKER),
        ("blk.0.attn_q.weight.lora_a", "llama", Role.ADAPTER),
    ],
)
def test_the_role_is_told_from_the_tensors(tmp_path: Path, tensor: str, architecture: str, role: Role) -> None:
    tensors = llama_tensors() | {tensor: Tensor("F32", (64, 1))}
    assert gguf(tmp_path, tensors, architecture=architecture).role is role


@pytest.mark.parametrize(("architecture", "role"), [("bert", Role.CLASSIFIER), ("qwen3", Role.RERANKER)])
def test_a_head_with_several_labels_is_a_classifiers_unless_they_are_yes_and_no(
    tmp_path: Path, architecture: str, role: Role
) -> None:
    tensors = llama_tensors() | {"cls.output.weight": Tensor("F32", (64, 2))}
    assert gguf(tmp_path, tensors, architecture=architecture, **{f"{architecture}__pooling_type": 4}).role is role


def test_a_file_without_tensors_is_a_vocabulary(tmp_path: Path) -> None:
    found = gguf(tmp_path, {})
    assert found.role is Role.VOCABULARY
    assert found.quantization is None and found.parameters is None
    assert found.shape is not None and found.shape.vocabulary == 32


def test_prediction_layers_alone_are_a_draft(tmp_path: Path) -> None:
    metadata = {"architecture": "glm4moe", "layers": 3, "glm4moe__nextn_predict_layers": 1}
    alone = {"token_embd.weight": Tensor("Q8_0", (64, 32)), "blk.2.nextn.eh_proj.weight": Tensor("Q8_0", (128, 64))}
    assert gguf(tmp_path, alone, **metadata).role is Role.DRAFT
    # With the model around them they are part of it.
    assert gguf(tmp_path, llama_tensors() | alone, **metadata).role is Role.TEXT


# --- Quantization


def test_the_label_comes_from_the_file_type_where_the_tensors_bear_it_out(tmp_path: Path) -> None:
    tensors = llama_tensors(kind="Q4_K", embedding=256, feed_forward=256)
    tensors["output.weight"] = Tensor("Q6_K", (256, 32))
    found = gguf(tmp_path, tensors, file_type=15, embedding=256)
    assert found.quantization is not None
    assert (found.quantization.method, found.quantization.label) == ("gguf", "Q4_K_M")
    assert found.quantization.bits is not None and 4.5 < found.quantization.bits < 5.0
    assert list(found.weight_bytes) == ["Q4_K", "Q6_K", "F32"]
    assert found.notes == ()


@pytest.mark.parametrize(("file_type", "kind"), [(15, "Q8_0"), (0, "Q8_0"), (7, "F16"), (1, "BF16")])
def test_a_file_type_that_the_tensors_belie_is_noted(tmp_path: Path, file_type: int, kind: str) -> None:
    sizes = {"embedding": 256, "feed_forward": 256}
    found = gguf(tmp_path, llama_tensors(kind=kind, **sizes), file_type=file_type)
    assert found.quantization is not None and found.quantization.label == kind
    assert any("general.file_type says" in note for note in found.notes)


def test_rows_that_no_block_of_256_divides_excuse_a_k_quant(tmp_path: Path) -> None:
    found = gguf(tmp_path, llama_tensors(kind="Q5_0"), file_type=15)
    assert found.quantization is not None and found.quantization.label == "Q4_K_M"
    assert found.notes == ()


@pytest.mark.parametrize("file_type", [None, 999])
def test_without_a_known_file_type_the_commonest_tensor_type_is_the_label(
    tmp_path: Path, file_type: int | None
) -> None:
    metadata = llama_metadata() | {"general.file_type": file_type}
    path = write_gguf(
        tmp_path / "model.gguf",
        {key: value for key, value in metadata.items() if value is not None},
        llama_tensors(kind="MXFP4"),
    )
    found = inspect(path)
    assert found.quantization is not None and found.quantization.label == "MXFP4"


def test_plain_floats_are_no_quantization(tmp_path: Path) -> None:
    found = gguf(tmp_path, llama_tensors(kind="F16"), file_type=1)
    assert found.quantization is not None
    assert (found.quantization.method, found.quantization.label) == ("none", "F16")


def with_type(raw: bytes, number: int) -> bytes:
    """The same header with another tensor type for the first tensor, a Q8_0."""
    at = raw.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 16
    return raw[:at] + struct.pack("<I", number) + raw[at + 4 :]


def test_a_type_of_a_fork_is_noted_and_the_rest_still_read(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf")
    path.write_bytes(with_type(path.read_bytes(), 137))
    found = inspect(path)
    assert any("137" in note for note in found.notes)
    assert found.weight_bytes["type 137"] > 0
    assert found.parameters == 76096


def test_a_type_that_llama_cpp_dropped_is_named(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf")
    path.write_bytes(with_type(path.read_bytes(), 31))
    with pytest.raises(UnsupportedFormat, match="Q4_0_4_4"):
        inspect(path)


# --- Shape


def test_key_value_heads_may_differ_from_layer_to_layer(tmp_path: Path) -> None:
    found = gguf(tmp_path, kv_heads=[4, 0])
    assert found.shape is not None and found.shape.kv_heads == (4, 0)


@pytest.mark.parametrize(
    ("extra", "kv_heads"),
    [
        ({"kv_heads": None}, (4, 4, 4, 4)),
        ({"kv_heads": None, "heads": [4, 4, 2, 2]}, (4, 4, 2, 2)),
        ({"kv_heads": [1, 2]}, (1, 2, 2, 2)),
        ({"llama__full_attention_interval": 4}, (0, 0, 0, 2)),
        ({"llama__attention__recurrent_layers": [True, False, True, False]}, (0, 2, 0, 2)),
        ({"llama__attention__shared_kv_layers": 3}, (2, 0, 0, 0)),
    ],
)
def test_layers_without_a_cache_are_told(tmp_path: Path, extra: dict[str, Any], kv_heads: tuple[int, ...]) -> None:
    found = gguf(tmp_path, **({"layers": 4} | extra))
    assert found.shape is not None and found.shape.kv_heads == kv_heads


def test_the_rest_of_the_shape(tmp_path: Path) -> None:
    found = gguf(
        tmp_path,
        llama__attention__key_length=32,
        llama__attention__value_length=24,
        llama__attention__sliding_window=128,
        llama__expert_count=8,
        llama__expert_used_count=2,
        feed_forward=[128, 256],
        tokenizer__ggml__tokens=None,
    )
    shape = found.shape
    assert shape is not None
    assert (shape.key_length, shape.value_length, shape.sliding_window) == (32, 24, 128)
    assert (shape.experts, shape.experts_used, shape.feed_forward) == (8, 2, 256)
    # Without a vocabulary the rows of the embedding tell.
    assert shape.vocabulary == 32


def test_a_file_without_layers_has_no_shape(tmp_path: Path) -> None:
    assert gguf(tmp_path, layers=0).shape is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.block_count", 2**31),
        ("llama.block_count", Typed("i32", -1)),
        ("llama.embedding_length", Typed("u64", 2**62)),
        ("llama.context_length", Typed("i64", -5)),
        ("llama.attention.head_count_kv", [Typed("i32", -2), Typed("i32", -2)]),
    ],
)
def test_absurd_numbers_are_corrupt(tmp_path: Path, key: str, value: Any) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama_metadata() | {key: value}, llama_tensors())
    with pytest.raises(CorruptFile, match=key):
        inspect(path)


# --- Headers that contradict themselves


def test_long_texts_and_arrays_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, llama_metadata() | {"x.text": "a" * (1 << 20) + "b", "x.numbers": [1] * 5000, "x.few": [1.5]})
    found = inspect(path)
    assert "x.text" not in found.metadata and "x.numbers" not in found.metadata
    assert any("x.text has 1048577 bytes" in note for note in found.notes)


@pytest.mark.parametrize("alignment", [0, 3, 2**21, Typed("str", "32")])
def test_alignment_must_be_a_power_of_two(tmp_path: Path, alignment: Any) -> None:
    path = write_gguf(tmp_path / "model.gguf", {"general.alignment": alignment})
    with pytest.raises(CorruptFile, match="alignment"):
        inspect(path)


def test_another_alignment_is_honoured(tmp_path: Path) -> None:
    metadata = llama_metadata(general__alignment=256)
    path = write_gguf(tmp_path / "model.gguf", metadata, llama_tensors(), alignment=256)
    assert inspect(path).parameters == 76096


def header_with(
    folder: Path, metadata: bytes = b"", count: int = 0, tensors: bytes = b"", tensor_count: int = 0
) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensor_count, count) + metadata + tensors + bytes(4096))
    return path


def pair(key: bytes, kind: int, raw: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + raw


def tensor(name: bytes, *shape: int, kind: int = 0, offset: int = 0, rank: int | None = None) -> bytes:
    rank = len(shape) if rank is None else rank
    head = struct.pack("<Q", len(name)) + name + struct.pack("<I", rank)
    return head + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("metadata", "count", "message"),
    [
        (pair(b"a", 4, bytes(4)) * 2, 2, "comes twice"),
        (pair(b"a", 13, b""), 1, "value type 13"),
        (pair(b"a", 9, struct.pack("<IQ", 9, 1)), 1, "entry type 9"),
        (pair(b"a", 9, struct.pack("<IQ", 4, 2**60)), 1, "entries"),
        (pair(b"a", 9, struct.pack("<IQ", 8, 2**60)), 1, "entries"),
        (pair(b"a", 9, struct.pack("<IQQ", 8, 2, 2**63)), 1, "a string of a ends"),
        (pair(b"a", 8, struct.pack("<Q", 2**62)), 1, "of a"),
        (struct.pack("<Q", 70_000) + bytes(80_000), 1, "too long"),
        (b"", 2**62, "metadata entries"),
        (b"", 60_000, "entries"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_metadata_that_cannot_be_is_corrupt(tmp_path: Path, metadata: bytes, count: int, message: str) -> None:
    with pytest.raises(CorruptFile, match=message):
        inspect(header_with(tmp_path, metadata, count))


@pytest.mark.parametrize(
    ("tensors", "count", "message"),
    [
        (tensor(b"a", 4) + tensor(b"b", 4), 2, "begins at 0"),
        (tensor(b"a", 4) + tensor(b"a", 4, offset=32), 2, "comes twice"),
        (tensor(b"a", 4, offset=32), 1, "begins at 32"),
        (tensor(b"a", 4, rank=5), 1, "5 dimensions"),
        (tensor(b"a", 2**40, 2**40), 1, "fewer than 2"),
        (tensor(b"a", 33, kind=8), 1, "multiple of 32 for Q8_0"),
        (tensor(b"a", 4, kind=2000), 1, "type 2000"),
        (tensor(b"a", 2**40, kind=200), 1, "what"),
        (tensor(b"a", 4, kind=200) + tensor(b"b", 4, offset=33), 2, "multiple of 32"),
        (tensor(b"a", 2**40), 1, "truncated"),
        (b"", 2**62, "tensors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tensors_that_cannot_be_are_corrupt(tmp_path: Path, tensors: bytes, count: int, message: str) -> None:
    with pytest.raises(CorruptFile, match=message):
        inspect(header_with(tmp_path, tensors=tensors, tensor_count=count))


def test_a_tensor_without_dimensions_is_one_number(tmp_path: Path) -> None:
    assert inspect(header_with(tmp_path, tensors=tensor(b"a"), tensor_count=1)).parameters == 1


def test_a_version_that_never_was_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 0x12345678) + bytes(64))
    with pytest.raises(CorruptFile, match="at byte 4, expected 2 or 3"):
        inspect(path)


def test_the_builder_writes_what_the_reader_expects() -> None:
    assert gguf_header({}, {}) == b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
