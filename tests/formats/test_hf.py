"""Hugging Face folders through the front door."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.builders import (
    hf_tensors,
    llama_config,
    write_adapter_folder,
    write_hf_folder,
    write_json,
    write_legacy_pytorch,
    write_pytorch,
    write_safetensors,
    write_tiny_gguf,
)
from uml.core.errors import BadFile, CorruptFile, MissingShard
from uml.core.model import Format, ModelInfo, Role
from uml.formats import inspect
from uml.formats.sentence import pooled_by
from uml.registry import packaged_model

DEMO = packaged_model("demo-safetensors")


def folder_with(path: Path, tensors: Any = None, **config: Any) -> ModelInfo:
    return inspect(write_hf_folder(path / "model", llama_config(**config), tensors))


def test_the_demo_models_source_is_what_it_is_known_to_be() -> None:
    found = inspect(DEMO)
    assert (found.format, found.role, found.architecture) == (Format.SAFETENSORS, Role.TEXT, "LlamaForCausalLM")
    assert found.parameters == 5_233_920
    assert found.quantization is not None and found.quantization.label == "BF16"
    assert found.context_length == 2048
    assert found.chat_template is not None
    assert found.shape is not None and found.shape.kv_heads == (2,) * 6


def test_everything_a_planner_needs_is_read(tmp_path: Path) -> None:
    found = folder_with(tmp_path)
    assert found.name == "model" and found.version == "5.0.0"
    assert found.weight_bytes == {"BF16": 37120}
    assert found.shape is not None
    assert (found.shape.layers, found.shape.kv_heads, found.shape.key_length) == (2, (2, 2), 16)
    assert found.shape.vocabulary == 32 and found.shape.feed_forward == 128
    assert {file.name for file in found.files} == {"model.safetensors", "config.json", "tokenizer_config.json"}
    assert found.size_bytes == sum(file.stat().st_size for file in found.files)
    assert found.metadata["hidden_size"] == 64
    assert found.notes == ()


def test_a_weight_file_stands_for_its_folder(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path / "model")
    assert inspect(folder / "model.safetensors") == inspect(folder)


def test_a_snapshot_in_the_cache_is_named_by_owner_and_model(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path / "models--Qwen--Qwen3-8B" / "snapshots" / "0123abcd")
    assert inspect(folder).name == "Qwen/Qwen3-8B"


# --- Shards


def test_shards_are_one_model(tmp_path: Path) -> None:
    whole = inspect(write_hf_folder(tmp_path / "whole"))
    split = inspect(write_hf_folder(tmp_path / "split", shards=3))
    assert split.parameters == whole.parameters and split.weight_bytes == whole.weight_bytes
    assert "3 safetensors files" in split.reason


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(MissingShard, match="model-00002-of-00003"):
        inspect(folder)


def test_a_missing_shard_is_named_without_an_index(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path, shards=3)
    (folder / "model.safetensors.index.json").unlink()
    assert inspect(folder).parameters
    (folder / "model-00003-of-00003.safetensors").unlink()
    with pytest.raises(MissingShard, match="model-00003-of-00003"):
        inspect(folder)


def test_a_link_that_leads_nowhere_is_a_missing_shard(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path, shards=2)
    shard = folder / "model-00002-of-00002.safetensors"
    shard.unlink()
    shard.symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(MissingShard):
        inspect(folder)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(MissingShard):
        inspect(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/outside.safetensors", ".hidden.safetensors"])
def test_an_index_may_only_name_files_of_its_folder(tmp_path: Path, name: str) -> None:
    folder = write_hf_folder(tmp_path, shards=2)
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": name}})
    with pytest.raises(CorruptFile, match=r"outside|hidden"):
        inspect(folder)


def test_an_index_that_breaks_off_is_corrupt(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path, shards=2)
    index = folder / "model.safetensors.index.json"
    index.write_bytes(index.read_bytes()[:-10])
    with pytest.raises(CorruptFile, match="breaks off"):
        inspect(folder)


def test_an_index_of_thousands_of_files_is_refused(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path, shards=2)
    write_json(
        folder / "model.safetensors.index.json", {str(number): f"{number}.safetensors" for number in range(5000)}
    )
    with pytest.raises(CorruptFile, match="5000 files"):
        inspect(folder)


def test_the_authors_own_copy_of_the_weights_is_not_counted(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    write_safetensors(folder / "consolidated.safetensors", hf_tensors())
    assert inspect(folder).parameters == 18560


# --- Safetensors


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


ENTRY = '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (safetensors(ENTRY.encode(), bytes(4)), "truncated"),
        (safetensors(ENTRY.encode(), bytes(12)), "4 bytes follow"),
        (safetensors(ENTRY.encode(), length=5000), "claims 5000 bytes"),
        (safetensors(b'{"a": '), "no JSON"),
        (safetensors(b'{"a": 1}'), "incomplete"),
        (safetensors(b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 8]}}', bytes(8)), "incomplete"),
        (safetensors(ENTRY.replace("[2]", "[3]").encode(), bytes(8)), "12 bytes for 3 elements"),
        (safetensors(ENTRY.replace("[0, 8]", "[8, 0]").encode(), bytes(8)), "lies at 8 to 0"),
        (safetensors(ENTRY.replace("[2]", f"[{2**62}, {2**62}]").encode(), bytes(8)), "a"),
        (safetensors(b'{"a": "\xff"}'), "no JSON"),
        (b"", "file ends"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_safetensors_that_cannot_be_are_corrupt(tmp_path: Path, raw: bytes, message: str) -> None:
    folder = write_hf_folder(tmp_path)
    (folder / "model.safetensors").write_bytes(raw)
    with pytest.raises(CorruptFile, match=message):
        inspect(folder)


def test_a_dtype_of_the_future_is_taken_at_its_word(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(safetensors(ENTRY.replace("F32", "F5_NEW").encode(), bytes(8)))
    found = inspect(tmp_path / "x.safetensors")
    assert found.weight_bytes == {"F5_NEW": 8}
    many = ENTRY.replace("F32", "F5_NEW").replace("[2]", f"[{1 << 40},{1 << 40}]")
    assert many != ENTRY
    (tmp_path / "x.safetensors").write_bytes(safetensors(many.encode(), bytes(8)))
    with pytest.raises(CorruptFile, match="elements of F5_NEW"):
        inspect(tmp_path / "x.safetensors")


def test_a_bare_file_says_what_is_missing(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", hf_tensors())
    found = inspect(path)
    assert (found.format, found.role, found.path) == (Format.SAFETENSORS, Role.UNKNOWN, path)
    assert any("config.json" in note for note in found.notes)
    assert found.parameters == 18560
    # A folder with nothing else in it is that file.
    assert inspect(tmp_path) == found


def test_a_bare_adapter_is_told_by_its_tensors(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "style.safetensors", {"lora_unet.lora_down.weight": ("F16", (4, 8))})
    found = inspect(path)
    assert found.role is Role.ADAPTER and "adapter_config.json" in found.notes[0]


# --- PyTorch


def test_pytorch_weights_are_recognised_and_never_unpickled(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", llama_config())
    write_pytorch(tmp_path / "pytorch_model.bin")
    # What a training run leaves beside them is no weight.
    write_pytorch(tmp_path / "training_args.bin")
    found = inspect(tmp_path)
    assert (found.format, found.role) == (Format.PYTORCH, Role.TEXT)
    assert found.quantization is not None and found.quantization.label == "BF16"
    assert [file.name for file in found.files] == ["pytorch_model.bin", "config.json"]
    assert any("pickle" in note for note in found.notes)
    assert inspect(tmp_path / "pytorch_model.bin") == found


def test_safetensors_come_before_pytorch(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path)
    write_pytorch(folder / "pytorch_model.bin")
    assert inspect(folder).format is Format.SAFETENSORS


def test_an_old_checkpoint_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    found = inspect(write_legacy_pytorch(tmp_path / "model.pt"))
    assert found.format is Format.PYTORCH and found.weight_bytes == {"pickle": found.size_bytes}
    write_json(tmp_path / "config.json", llama_config(torch_dtype=None))
    assert inspect(tmp_path).quantization is None


def test_a_checkpoint_that_breaks_off_is_corrupt(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", llama_config())
    path = write_pytorch(tmp_path / "pytorch_model.bin")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorruptFile, match="breaks off after 200 bytes"):
        inspect(tmp_path)


def test_a_shard_that_is_no_checkpoint_is_corrupt(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", llama_config())
    write_pytorch(tmp_path / "pytorch_model-00001-of-00002.bin")
    (tmp_path / "pytorch_model-00002-of-00002.bin").write_bytes(b"<html>")
    with pytest.raises(CorruptFile, match="PyTorch checkpoint"):
        inspect(tmp_path)


def test_a_training_file_alone_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="training run"):
        inspect(write_pytorch(tmp_path / "optimizer.pt"))


def test_a_pointer_that_git_left_is_named(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path)
    pointer = folder / "model.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(BadFile, match="git lfs pull"):
        inspect(pointer)
    pointer.rename(folder / "weights.safetensors")
    with pytest.raises(BadFile, match="git lfs pull"):
        inspect(folder)


# --- Roles


@pytest.mark.parametrize(
    ("config", "role"),
    [
        ({}, Role.TEXT),
        ({"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "x"}}, Role.RERANKER),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": 1}, Role.RERANKER),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}, Role.CLASSIFIER),
        ({"architectures": ["BertModel"], "model_type": "bert"}, Role.EMBEDDING),
        ({"architectures": ["LlamaForCausalLMEagle3"]}, Role.DRAFT),
        ({"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper"}, Role.UNKNOWN),
        ({"architectures": ["Qwen2VLForConditionalGeneration"]}, Role.TEXT),
        ({"architectures": ["ChatGLMModel"], "vocab_size": None, "padded_vocab_size": 65024}, Role.TEXT),
        ({"_diffusers_version": "0.30.0"}, Role.UNKNOWN),
        ({"architectures": None}, Role.TEXT),
        ({"architectures": "odd", "model_type": None, "vocab_size": None}, Role.UNKNOWN),
    ],
)
def test_the_role_is_told_from_the_configuration(tmp_path: Path, config: dict[str, Any], role: Role) -> None:
    assert folder_with(tmp_path, **config).role is role


def test_a_sentence_transformer_is_for_embeddings(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path, llama_config(architectures=["Qwen3Model"], model_type="qwen3"))
    write_json(folder / "modules.json", [{"idx": 0, "type": "sentence_transformers.models.Transformer"}])
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 128})
    found = inspect(folder)
    assert found.role is Role.EMBEDDING and found.context_length == 128


def sentence_folder(folder: Path, *paths: str) -> Path:
    folder.mkdir(parents=True)
    kinds = ("Transformer", "Pooling", "Dense")
    entries = [
        {"idx": index, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(zip(paths, kinds, strict=False))
    ]
    write_json(folder / "modules.json", entries)
    return folder


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "cls_token+max_tokens"),
        ({"word_embedding_dimension": 64}, ""),
    ],
)
def test_how_tokens_become_one_is_read_in_old_words_and_new(tmp_path: Path, said: dict[str, Any], way: str) -> None:
    (tmp_path / "1_Pooling").mkdir()
    write_json(tmp_path / "1_Pooling" / "config.json", said)
    assert pooled_by(tmp_path) == way
    (tmp_path / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(CorruptFile, match="no JSON"):
        pooled_by(tmp_path)
    assert pooled_by(tmp_path / "none") == ""


def test_a_sentence_transformer_may_keep_its_model_in_a_folder_inside(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "gtr", "0_Transformer", "1_Pooling", "2_Dense")
    write_hf_folder(folder / "0_Transformer", llama_config(architectures=["T5EncoderModel"], model_type="t5"))
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 64})
    write_hf_folder(folder / "2_Dense", {"in_features": 64}, {"linear.weight": ("F32", (32, 64))})
    found = inspect(folder)
    assert (found.role, found.name, found.path, found.architecture) == (
        Role.EMBEDDING, "gtr", folder, "T5EncoderModel",
    )  # fmt: skip
    assert "in 0_Transformer: config.json and 1 safetensors file" in found.reason
    assert folder / "2_Dense" / "model.safetensors" in found.files
    assert found.size_bytes == sum(file.stat().st_size for file in set(found.files))


def test_a_table_of_vectors_is_a_sentence_transformer_too(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "static", "0_StaticEmbedding")
    (folder / "0_StaticEmbedding").mkdir()
    assert inspect(folder).format is Format.UNKNOWN
    write_safetensors(folder / "0_StaticEmbedding" / "model.safetensors", {"embedding.weight": ("F32", (32, 64))})
    found = inspect(folder)
    assert (found.role, found.format, found.notes) == (Role.EMBEDDING, Format.SAFETENSORS, ())
    write_json(folder / "0_StaticEmbedding" / "config.json", {})
    (folder / "0_StaticEmbedding" / "model.safetensors").unlink()
    assert inspect(folder).format is Format.UNKNOWN


@pytest.mark.parametrize(
    "raw", [b"[", b"{}", b"[1]", b'[{"path": ""}]', b'[{"path": "../x", "type": "t"}]', b"[" + b" " * (1 << 20) + b"]"]
)
def test_a_list_of_modules_may_be_another_programs(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "modules.json").write_bytes(raw)
    assert inspect(tmp_path).format is Format.UNKNOWN
    assert inspect(write_hf_folder(tmp_path)).role is Role.TEXT


def test_a_model_may_bring_an_adapters_configuration_along(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path)
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 8})
    assert inspect(folder).role is Role.TEXT


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    found = inspect(write_adapter_folder(tmp_path))
    assert found.role is Role.ADAPTER and found.parameters == 1024
    assert "owner/base" in found.reason and "rank 8" in found.notes[0]
    (tmp_path / "adapter_model.safetensors").unlink()
    assert inspect(tmp_path).format is Format.UNKNOWN


# --- Shape and context


@pytest.mark.parametrize(
    ("config", "kv_heads"),
    [
        ({"num_key_value_heads": None}, (4, 4)),
        ({"multi_query": True}, (1, 1)),
        ({"layer_types": ["linear_attention", "full_attention"]}, (0, 2)),
        ({"hybrid_override_pattern": "M*"}, (0, 2)),
        ({"full_attention_interval": 2}, (0, 2)),
        ({"num_kv_shared_layers": 1}, (2, 0)),
        ({"layer_types": ["mamba"]}, (0, 2)),
        ({"block_types": ["recurrent", "attention"]}, (0, 2)),
        ({"attn_layer_indices": [1, "x"]}, (0, 2)),
        ({"attn_layer_period": 2, "attn_layer_offset": 1}, (0, 2)),
        ({"model_type": "mamba2"}, (0, 0)),
        ({"num_key_value_heads": None, "attn_config": {"kv_n_heads": 1}}, (1, 1)),
        ({"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}, (4, 4)),
    ],
)
def test_layers_without_a_cache_are_told(tmp_path: Path, config: dict[str, Any], kv_heads: tuple[int, ...]) -> None:
    shape = folder_with(tmp_path, **config).shape
    assert shape is not None and shape.kv_heads == kv_heads
    assert shape.key_length == (192 if "kv_lora_rank" in config else 16)


def test_the_language_part_of_a_multimodal_model_counts(tmp_path: Path) -> None:
    text = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 8, "sliding_window": 512}
    shape = folder_with(tmp_path, text_config=text).shape
    assert shape is not None and (shape.embedding, shape.layers, shape.sliding_window) == (128, 3, 512)
    shape = folder_with(tmp_path / "b", thinker_config={"text_config": text}, use_sliding_window=False).shape
    assert shape is not None and shape.layers == 3 and shape.sliding_window is None


def test_what_a_text_part_leaves_out_is_its_classs_default(tmp_path: Path) -> None:
    """As Gemma 3 4B says it."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    found = inspect(write_hf_folder(tmp_path, config))
    assert found.shape is not None and found.context_length == 131072
    assert (found.shape.kv_heads, found.shape.key_length, found.shape.vocabulary) == ((4,) * 34, 256, 262208)


def test_mixtures_and_widths_are_found_where_they_are(tmp_path: Path) -> None:
    shape = folder_with(tmp_path, intermediate_size=[96, 128, "x"]).shape
    assert shape is not None and shape.feed_forward == 128
    inside = {"ffn_hidden_size": 96, "moe_num_experts": 16, "moe_top_k": 4}
    shape = folder_with(tmp_path / "b", intermediate_size=None, ffn_config=inside).shape
    assert shape is not None and (shape.feed_forward, shape.experts, shape.experts_used) == (96, 16, 4)


@pytest.mark.parametrize("config", [{"num_hidden_layers": 10**9}, {"hidden_size": 0}, {"num_hidden_layers": "many"}])
def test_absurd_numbers_give_no_shape(tmp_path: Path, config: dict[str, Any]) -> None:
    assert folder_with(tmp_path, **config).shape is None


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({}, 256),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}}, 1024),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 256),
        ({"max_position_embeddings": None, "n_positions": 1024}, 1024),
        ({"max_position_embeddings": None, "context_length": 1024}, 1024),
        ({"max_position_embeddings": None}, 512),
    ],
)
def test_the_context_length(tmp_path: Path, config: dict[str, Any], context: int) -> None:
    assert folder_with(tmp_path, **config).context_length == context


# --- Templates and notes


def test_the_template_is_taken_from_the_first_place_that_has_one(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path)
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    write_json(folder / "tokenizer_config.json", {"chat_template": named})
    assert inspect(folder).chat_template == "plain"
    write_json(folder / "chat_template.json", {"chat_template": "from json"})
    assert inspect(folder).chat_template == "from json"
    (folder / "chat_template.jinja").write_text("from jinja")
    assert inspect(folder).chat_template == "from jinja"
    (folder / "chat_template.jinja").write_bytes(bytes((1 << 20) + 1))
    found = inspect(folder)
    assert found.chat_template == "from json" and any("left out" in note for note in found.notes)


def test_a_broken_file_beside_the_weights_is_noted(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path)
    (folder / "tokenizer_config.json").write_text("{")
    found = inspect(folder)
    assert found.chat_template is None
    assert any("tokenizer_config.json was left out" in note for note in found.notes)


def test_code_of_its_own_is_noted(tmp_path: Path) -> None:
    found = folder_with(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_x.XForCausalLM"})
    assert any("code of its own (AutoModelForCausalLM)" in note for note in found.notes)


@pytest.mark.parametrize("raw", [b"", b"[1]", b"{", b"{" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b"\xff\xfe"])
def test_a_broken_configuration_is_corrupt(tmp_path: Path, raw: bytes) -> None:
    folder = write_hf_folder(tmp_path)
    (folder / "config.json").write_bytes(raw)
    with pytest.raises(CorruptFile, match=r"config\.json"):
        inspect(folder)


# --- Folders that are not models


def test_a_folder_with_gguf_files_is_those(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path)
    path = write_tiny_gguf(folder / "a.gguf")
    assert inspect(folder).path == path
    write_tiny_gguf(folder / "b.gguf")
    found = inspect(folder)
    assert found.format is Format.UNKNOWN
    assert "2 GGUF models (a.gguf, b.gguf)" in found.reason


def test_a_projector_beside_a_model_goes_with_it(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf")
    write_tiny_gguf(tmp_path / "mmproj-model.gguf", general__type="mmproj")
    assert inspect(tmp_path).path == path
    for number in range(8):
        write_tiny_gguf(tmp_path / f"{number}.gguf")
    assert inspect(tmp_path).reason.startswith(
        "a folder of 10 GGUF models (0.gguf, 1.gguf, 2.gguf, 3.gguf, 4.gguf ...)"
    )


def test_a_folder_without_a_model_says_what_it_holds(tmp_path: Path) -> None:
    assert inspect(tmp_path).reason.endswith("it holds nothing")
    write_json(tmp_path / "config.json", llama_config())
    (tmp_path / "inner").mkdir()
    found = inspect(tmp_path)
    assert found.format is Format.UNKNOWN and found.reason.endswith("it holds config.json, inner/")
    (tmp_path / "config.json").rename(tmp_path / "modules.json")
    write_safetensors(tmp_path / "x.safetensors", {})
    assert inspect(tmp_path).format is Format.SAFETENSORS
    (tmp_path / "x.safetensors").unlink()
    write_json(tmp_path / "model_index.json", {"_class_name": "FluxPipeline"})
    assert "a Diffusers pipeline" in inspect(tmp_path).reason


def test_a_header_is_json_that_the_library_would_read(tmp_path: Path) -> None:
    raw = json.dumps({"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}})
    (tmp_path / "one.safetensors").write_bytes(safetensors(raw.encode() + b"   ", bytes(4)))
    assert inspect(tmp_path / "one.safetensors").parameters == 1
