"""Folders of safetensors as GGUF: what is written, what is refused, and that nothing is left of what fails."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.builders import write_json, write_pytorch
from tests.runtime.conversions.hf_folders import Shapes, config, shapes, tokenizer, write_folder
from uml.core.errors import (
    BadFile,
    BadRequest,
    Cancelled,
    ConversionFailed,
    CorruptFile,
    NoRoom,
    UnsupportedArchitecture,
    UnsupportedFormat,
)
from uml.core.model import Role
from uml.engines.llamacpp.mixture import KINDS
from uml.formats import inspect
from uml.formats.gguf.values import text
from uml.runtime.conversions.gguf import make
from uml.runtime.conversions.gguf.families import FAMILIES
from uml.runtime.conversions.gguf.recipe import PRECISIONS, size_label
from uml.runtime.conversions.workshop import Making

SOURCE = Path("src/uml/models/demo-safetensors")


def convert(source: Path, place: Path, kind: str = "F32", notes: list[str] | None = None, **more: Any) -> Path:
    heard = notes if notes is not None else []
    return make.convert(make.Order("it", inspect(source), kind, place, 2, **more), lambda making: None, heard.append)


def tensors(path: Path) -> dict[str, Any]:
    """Name -> values as float32, in the shape that torch has."""
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        found[tensor.name] = values.reshape([int(size) for size in reversed(tensor.shape)])
    return found


def metadata(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def stored(folder: Path) -> dict[str, Any]:
    """Name -> values of a folder's one file of BF16."""
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        words = np.frombuffer(raw[start + begin : start + end], "<u2").astype("<u4") << 16
        found[name] = words.view("<f4").reshape(entry["shape"])
    return found


def in_pairs(weights: Any, heads: int) -> Any:
    """The halves of each head, one row of each in turn."""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def test_the_demo_model_becomes_what_its_weights_say(tmp_path: Path) -> None:
    source, found = stored(SOURCE), tensors(convert(SOURCE, tmp_path / "made.gguf"))
    settings = json.loads((SOURCE / "config.json").read_text())
    heads = {"attn_q": settings["num_attention_heads"], "attn_k": settings["num_key_value_heads"]}
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "mlp.down_proj": "ffn_down"}
    for layer in range(settings["num_hidden_layers"]):
        for theirs, ours in names.items():
            weights = source[f"model.layers.{layer}.{theirs}.weight"]
            expected = in_pairs(weights, heads[ours]) if ours in heads else weights
            assert np.array_equal(found[f"blk.{layer}.{ours}.weight"], expected)
    assert np.array_equal(found["token_embd.weight"], source["model.embed_tokens.weight"])
    assert len(found) == len(source)


@pytest.mark.parametrize(("kind", "file"), [("Q8_0", "demo.gguf")])
def test_it_is_what_ships(tmp_path: Path, kind: str, file: str) -> None:
    more = {"general.name": text("UML Demo 5M"), "general.license": text("apache-2.0")}
    made = convert(SOURCE, tmp_path / file, kind, more=more)
    assert made.read_bytes() == (SOURCE.parent / file).read_bytes()


def test_metadata_are_those_of_the_folder(tmp_path: Path) -> None:
    generation = {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}
    templates = [{"name": "default", "template": "D"}, {"name": "rag", "template": "R"}]
    folder = write_folder(
        tmp_path / "models--Owner--Tiny-Llama" / "snapshots" / "1",
        tokenizer_config={"chat_template": templates, "add_bos_token": True},
        generation_config=generation,
    )
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("T")
    found = metadata(convert(folder, tmp_path / "made.gguf"))
    assert found["general.name"] == "Tiny Llama"
    assert found["general.size_label"] == "81K"
    assert found["general.sampling.top_k"] == 20
    assert found["general.sampling.penalty_repeat"] == pytest.approx(1.05)
    assert found["general.sampling.temp"] == pytest.approx(0.7)
    assert found["tokenizer.chat_template"] == "D"
    assert found["tokenizer.chat_template.rag"] == "R"
    assert found["tokenizer.chat_template.tool_use"] == "T"
    assert found["tokenizer.chat_templates"] == ["rag", "tool_use"]
    ids = {key: found[f"tokenizer.ggml.{key}_token_id"] for key in ("bos", "eos", "padding")}
    assert ids == {"bos": 1, "eos": 2, "padding": 0}
    assert found["tokenizer.ggml.add_bos_token"] is True
    # The vocabulary is filled up to the rows of the embedding with what is never made.
    assert len(found["tokenizer.ggml.tokens"]) == 300
    assert found["tokenizer.ggml.tokens"][-1] == "[PAD299]"
    assert found["tokenizer.ggml.token_type"][-1] == 5
    assert found["tokenizer.ggml.merges"] == ["t h", "th e"]
    assert found["llama.rope.freq_base"] == 10_000.0


def test_samplers_of_a_model_that_does_not_sample_are_left(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it", generation_config={"do_sample": False, "temperature": 0.7})
    assert "general.sampling.temp" not in metadata(convert(folder, tmp_path / "made.gguf"))


def test_every_kind_is_one_that_can_be_packed() -> None:
    assert set(PRECISIONS) <= set(KINDS)


@pytest.mark.parametrize(("kind", "label"), [("BF16", "BF16"), ("Q4_K_M", "Q4_K_M"), ("F16", "F16")])
def test_the_kind_is_seen_in_the_file(tmp_path: Path, kind: str, label: str) -> None:
    info = inspect(convert(SOURCE, tmp_path / "made.gguf", kind))
    assert info.quantization is not None and info.quantization.label == label
    assert not info.notes
    assert info.chat_template == inspect(SOURCE).chat_template


def test_without_a_kind_nothing_is_lost() -> None:
    assert make.usual_kind("demo", inspect(SOURCE)) == "BF16"


def test_steps_are_told_and_never_fall(tmp_path: Path) -> None:
    heard: list[Making] = []
    order = make.Order("it", inspect(SOURCE), "F16", tmp_path / "made.gguf", 1)
    make.convert(order, heard.append, lambda note: None)
    assert heard[-1] == Making("done", 100)
    assert [step.percent for step in heard] == sorted(step.percent for step in heard)


def mixture(**extra: Any) -> dict[str, Any]:
    special = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "num_experts": 3,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
        "head_dim": 16,
    }
    return config(**(special | extra))


def mixture_shapes(*, fused: bool) -> dict[str, tuple[int, ...]]:
    found = {name: shape for name, shape in shapes().items() if ".mlp." not in name}
    for layer in range(2):
        inside = f"model.layers.{layer}"
        found |= {f"{inside}.self_attn.{one}_norm.weight": (16,) for one in "qk"}
        found[f"{inside}.mlp.gate.weight"] = (3, 64)
        if fused:
            found |= {f"{inside}.mlp.experts.gate_up_proj": (3, 64, 64), f"{inside}.mlp.experts.down_proj": (3, 64, 32)}
            continue
        for expert in range(3):
            own = f"{inside}.mlp.experts.{expert}"
            found |= {f"{own}.gate_proj.weight": (32, 64), f"{own}.up_proj.weight": (32, 64)}
            found[f"{own}.down_proj.weight"] = (64, 32)
    return found


def test_experts_lie_together(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "apart", mixture(), mixture_shapes(fused=False))
    source, found = stored(folder), tensors(convert(folder, tmp_path / "made.gguf"))
    for theirs, ours in (("gate_proj", "gate"), ("up_proj", "up"), ("down_proj", "down")):
        expected = [source[f"model.layers.1.mlp.experts.{expert}.{theirs}.weight"] for expert in range(3)]
        assert np.array_equal(found[f"blk.1.ffn_{ours}_exps.weight"], np.stack(expected))


def test_experts_in_one_tensor_are_taken_apart(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "fused", mixture(), mixture_shapes(fused=True))
    source, found = stored(folder), tensors(convert(folder, tmp_path / "made.gguf"))
    both = source["model.layers.0.mlp.experts.gate_up_proj"]
    assert np.array_equal(found["blk.0.ffn_gate_exps.weight"], both[:, :32])
    assert np.array_equal(found["blk.0.ffn_up_exps.weight"], both[:, 32:])
    assert np.array_equal(found["blk.0.ffn_down_exps.weight"], source["model.layers.0.mlp.experts.down_proj"])


def test_an_embedding_model_says_how_it_pools(tmp_path: Path) -> None:
    settings = config(architectures=["Qwen3ForCausalLM"], model_type="qwen3", head_dim=16)
    norms: Shapes = {f"model.layers.{layer}.self_attn.{one}_norm.weight": (16,) for layer in range(2) for one in "qk"}
    folder = write_folder(tmp_path / "embedding", settings, shapes() | norms)
    write_json(folder / "modules.json", [{"path": "", "type": "x.Transformer"}, {"path": "1", "type": "x.Pooling"}])
    write_json(_made(folder / "1") / "config.json", {"pooling_mode_lasttoken": True, "pooling_mode_cls_token": False})
    made = inspect(convert(folder, tmp_path / "made.gguf"))
    assert made.role is Role.EMBEDDING
    assert made.metadata["qwen3.pooling_type"] == 3
    nested = tmp_path / "nested"
    shutil.copytree(folder, nested / "0_Transformer", ignore=shutil.ignore_patterns("1", "modules.json"))
    shutil.copytree(folder / "1", nested / "1")
    write_json(
        nested / "modules.json",
        [{"path": "0_Transformer", "type": "x.Transformer"}, {"path": "1", "type": "x.Pooling"}],
    )
    assert metadata(convert(nested, tmp_path / "nested.gguf"))["qwen3.pooling_type"] == 3
    write_json(folder / "1" / "config.json", {"pooling_mode": "mean"})
    assert metadata(convert(folder, tmp_path / "mean.gguf"))["qwen3.pooling_type"] == 1
    write_json(folder / "1" / "config.json", {"pooling_mode_max_tokens": True})
    with pytest.raises(UnsupportedArchitecture, match="a pooling other than"):
        convert(folder, tmp_path / "max.gguf")
    write_json(folder / "modules.json", [{"path": "", "type": "x.Transformer"}, {"path": "2", "type": "x.Dense"}])
    with pytest.raises(UnsupportedArchitecture, match="a layer after the pooling"):
        convert(folder, tmp_path / "dense.gguf")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (config(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=64), "the last 64 tokens"),
        (config(rope_scaling={"rope_type": "dynamic", "factor": 2.0}), "beyond 256 tokens"),
    ],
)
def test_what_differs_is_said(tmp_path: Path, settings: Mapping[str, Any], told: str) -> None:
    notes: list[str] = []
    convert(write_folder(tmp_path / "it", settings), tmp_path / "made.gguf", notes=notes)
    assert len(notes) == 1 and told in notes[0]


def test_texts_that_are_normalized_first_are_said(tmp_path: Path) -> None:
    notes: list[str] = []
    cut = tokenizer() | {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}}
    convert(write_folder(tmp_path / "it", cut=cut), tmp_path / "made.gguf", notes=notes)
    assert len(notes) == 1 and "NFC" in notes[0]


GEMMA2 = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_activation": "gelu_pytorch_tanh",
    "hidden_act": None, "head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (config(hidden_act="relu"), "the activation 'relu'"),
        (config(rope_scaling={"rope_type": "odd"}), "positions of type 'odd'"),
        (config(rope_scaling={"rope_type": "linear"}), "a factor of positions of None"),
        (config(rope_scaling={"rope_type": "yarn", "factor": 0.5}), "YaRN with a factor of 0.5"),
        (config(rope_scaling={"rope_type": "yarn", "factor": 2, "truncate": False}), "is not rounded"),
        (config(rope_scaling={"rope_type": "longrope", "long_factor": [1, 2]}), "without 8 numbers in long_factor"),
        (config(max_position_embeddings=None, rope_scaling={"rope_type": "yarn", "factor": 2}), "an unknown length"),
        (config(**GEMMA2), "the root of 24, where llama.cpp takes that of 16"),
        (mixture(norm_topk_prob=False), "norm_topk_prob is False"),
        (mixture(norm_topk_prob=None), "norm_topk_prob is not said"),
        (mixture(mlp_only_layers=[1]), "layers with experts and layers without"),
        (
            config(architectures=["SmolLM3ForCausalLM"], model_type="smollm3", no_rope_layers=[1, 0]),
            "another choice of layers",
        ),
        (config(num_attention_heads=None), "a configuration without"),
        (config(position_embedding_type="relative_key"), "positions of type 'relative_key'"),
        (
            config(architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", hidden_act="gelu_pytorch_tanh")
            | {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 30.0},
            "attention scores with a cap",
        ),
    ],
)
def test_what_llamacpp_would_compute_otherwise_is_refused(
    tmp_path: Path, settings: Mapping[str, Any], reason: str
) -> None:
    folder = write_folder(tmp_path / "it", settings)
    with pytest.raises(UnsupportedArchitecture, match=re.escape(reason)) as raised:
        convert(folder, tmp_path / "made" / "made.gguf")
    assert raised.value.message.startswith("it does not become GGUF: llama.cpp cannot be told of ")
    assert raised.value.message.endswith((make.INSTEAD, make.AS_IT_IS))
    assert not (tmp_path / "made").exists()


def with_cut(**changed: Any) -> dict[str, Any]:
    return tokenizer() | changed


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        ({}, "a tokenizer without tokenizer.json or tokenizer.model"),
        (with_cut(pre_tokenizer={"type": "Whitespace"}), "a tokenizer of the kind BPE"),
        (
            with_cut(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True}),
            "a space that is put before each text",
        ),
        (
            with_cut(
                pre_tokenizer={
                    "type": "Sequence",
                    "pretokenizers": [
                        {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated"},
                        {"type": "ByteLevel", "use_regex": False},
                    ],
                }
            ),
            "llama.cpp cannot be told of words that are cut by 'x+'",
        ),
        (
            with_cut(
                pre_tokenizer={
                    "type": "Sequence",
                    "pretokenizers": [
                        {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithNext"},
                        {"type": "ByteLevel"},
                    ],
                }
            ),
            "words that are cut by ' ', MergedWithNext",
        ),
        (with_cut(model={"type": "BPE", "byte_fallback": True, "vocab": 3, "merges": []}), "without a vocabulary"),
        (
            with_cut(
                pre_tokenizer=None,
                model={
                    "type": "BPE",
                    "byte_fallback": True,
                    "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5},
                    "merges": ["a b", "ab c"],
                },
            ),
            "merges of which 2 of 4 are missing",
        ),
        (with_cut(model={"type": "WordPiece", "vocab": {"a": 0}, "continuing_subword_prefix": "@@"}), "'@@'"),
        (with_cut(model={"type": "Unigram", "vocab": [["a"]]}), "without a vocabulary"),
        (
            with_cut(
                normalizer={"type": "Precompiled", "precompiled_charsmap": "!"},
                model={"type": "Unigram", "vocab": [["a", -1.0]]},
            ),
            "no base64",
        ),
    ],
)
def test_a_tokenizer_that_llamacpp_does_not_have_is_refused(
    tmp_path: Path, cut: Mapping[str, Any], reason: str
) -> None:
    folder = write_folder(tmp_path / "it", cut=cut)
    with pytest.raises(UnsupportedArchitecture, match=re.escape(reason)):
        convert(folder, tmp_path / "made.gguf")


def test_an_architecture_that_is_not_in_the_list_is_named_with_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it", config(architectures=["OddForCausalLM"]))
    with pytest.raises(UnsupportedArchitecture) as raised:
        convert(folder, tmp_path / "made.gguf")
    said = raised.value.message
    assert "OddForCausalLM" in said and "--converter" in said
    assert all(name in said for name in FAMILIES)


def test_what_is_no_plain_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match=r"it is gguf .*uml quantize it --to KIND"):
        convert(SOURCE.parent / "demo.gguf", tmp_path / "made.gguf")
    folder = tmp_path / "old"
    write_json(_made(folder) / "config.json", config())
    write_pytorch(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedFormat, match="first: uml convert it --to safetensors"):
        convert(folder, tmp_path / "made.gguf")


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"model.layers.0.self_attn.odd.weight": (8, 8)}, UnsupportedArchitecture, "self_attn.odd.weight"),
        ({"model.layers.2.input_layernorm.weight": (64,)}, UnsupportedArchitecture, "layers beyond its 2"),
        ({"model.layers.0.self_attn.q_proj.weight": (30, 64)}, CorruptFile, "attn_q.weight has 30 rows"),
        ({"model.layers.0.self_attn.q_proj.weight": (128, 64)}, ConversionFailed, "llama.cpp does not take"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, changed: dict[str, tuple[int, ...]], error: type[Exception], says: str
) -> None:
    folder = write_folder(tmp_path / "it", weights=shapes() | changed)
    (tmp_path / "made").mkdir()
    with pytest.raises(error) as raised:
        convert(folder, tmp_path / "made" / "made.gguf")
    assert says in str(raised.value)
    assert not list((tmp_path / "made").iterdir())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    without = {name: shape for name, shape in shapes().items() if ".1." not in name}
    with pytest.raises(CorruptFile, match="there is no layer 1"):
        convert(write_folder(tmp_path / "layer", weights=without), tmp_path / "made.gguf")
    without = {name: shape for name, shape in shapes().items() if "embed" not in name}
    with pytest.raises((CorruptFile, UnsupportedArchitecture, BadFile), match="no embedding"):
        convert(write_folder(tmp_path / "embedding", weights=without), tmp_path / "made.gguf")
    without = {name: shape for name, shape in mixture_shapes(fused=False).items() if "experts.2.up" not in name}
    with pytest.raises(CorruptFile, match="has 2 experts"):
        convert(write_folder(tmp_path / "expert", mixture(), without), tmp_path / "made.gguf")
    odd = mixture_shapes(fused=False) | {"model.layers.0.mlp.experts.2.up_proj.weight": (16, 64)}
    with pytest.raises(CorruptFile, match="different sizes"):
        convert(write_folder(tmp_path / "sizes", mixture(), odd), tmp_path / "made.gguf")
    odd = mixture_shapes(fused=True) | {"model.layers.0.mlp.experts.down_proj": (3, 7, 32)}
    folder = write_folder(tmp_path / "rows", mixture(num_experts=4), odd)
    with pytest.raises(CorruptFile, match="as many for each of 4 experts"):
        convert(folder, tmp_path / "made.gguf")


def test_what_is_there_stays_and_a_full_disk_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there.gguf").write_text("mine")
    with pytest.raises(BadRequest, match="is there already"):
        convert(SOURCE, tmp_path / "there.gguf")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Disk())
    with pytest.raises(NoRoom):
        convert(SOURCE, tmp_path / "made.gguf")


class _Disk:
    free = 1000


def test_stopped_it_leaves_nothing(tmp_path: Path) -> None:
    order = make.Order("it", inspect(SOURCE), "F16", tmp_path / "made" / "made.gguf", 1)
    with pytest.raises(Cancelled):
        make.convert(order, lambda making: None, lambda note: None, lambda: True)
    assert not list((tmp_path / "made").iterdir())


def test_labels_of_sizes() -> None:
    sizes = {846_000: "846K", 5_200_000: "5M", 1_240_000_000: "1.2B", 7_000_000_000: "7B"}
    assert {number: size_label(number) for number in sizes} == sizes
