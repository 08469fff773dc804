"""Rerankers of BERT's own class and of ModernBERT: what is told of heads and windows, and which are refused.

That the numbers are right is held by `test_gguf_truth`, where Transformers is at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.conversions.hf_folders import Shapes, config, tokenizer, write_folder
from tests.runtime.conversions.test_gguf import convert, metadata, stored, tensors
from tests.runtime.conversions.test_gguf_told import ENCODER, ENDS, encoder_shapes, word_pieces
from uml.core.errors import UnsupportedArchitecture, UnsupportedFormat
from uml.core.model import Role
from uml.formats import inspect

ONE = {"id2label": {"0": "LABEL_0"}}
JUDGE = config(**ENCODER | ONE | {"architectures": ["BertForSequenceClassification"]})


def judge_shapes() -> Shapes:
    body = {f"bert.{name}": size for name, size in encoder_shapes().items() if "pooler" not in name}
    head = {"bert.pooler.dense.weight": (64, 64), "bert.pooler.dense.bias": (64,)}
    return {**body, **head, "classifier.weight": (1, 64), "classifier.bias": (1,)}


def pair(*types: int) -> dict[str, Any]:
    """A tokenizer of word pieces whose query and document get these types of tokens."""
    special = [{"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]")]
    texts = [{"Sequence": {"id": name, "type_id": kind}} for name, kind in zip("AB", types, strict=True)]
    single = [special[0], texts[0], special[1]]
    template = {"type": "TemplateProcessing", "single": single, "pair": [*single, texts[1], special[1]]}
    return word_pieces(lower=False) | {"post_processor": template}


MARKING = word_pieces(lower=False)  # BertProcessing marks the second text


def test_what_bert_pools_is_the_first_layer_of_its_head(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it", JUDGE, judge_shapes(), pair(0, 0), **ENDS)
    made = convert(folder, tmp_path / "made.gguf")
    assert inspect(made).role is Role.RERANKER
    said, found, source = metadata(made), tensors(made), stored(folder)
    assert (said["bert.pooling_type"], said["tokenizer.ggml.add_sep_token"]) == (4, False)
    assert np.array_equal(found["cls.weight"], source["bert.pooler.dense.weight"])
    assert np.array_equal(found["cls.output.weight"], source["classifier.weight"])


@pytest.mark.parametrize("cut", [pair(0, 1), MARKING, pair(0, 0) | {"post_processor": None}])
def test_a_reranker_that_marks_its_texts_is_left_to_transformers(tmp_path: Path, cut: dict[str, Any]) -> None:
    folder = write_folder(tmp_path / "it", JUDGE, judge_shapes(), cut, **ENDS)
    with pytest.raises(UnsupportedArchitecture, match=r"types of tokens.*the engine transformers runs it") as raised:
        convert(folder, tmp_path / "made.gguf")
    assert "--converter" not in str(raised.value)


@pytest.mark.parametrize(
    ("cut", "inputs"),
    [
        (pair(0, 1), ["input_ids", "attention_mask"]),  # marks are made, and the model is not given them
        (
            pair(0, 0) | {"post_processor": {"type": "RobertaProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]}},
            None,
        ),
    ],
)
def test_marks_that_the_model_does_not_get_do_not_matter(
    tmp_path: Path, cut: dict[str, Any], inputs: list[str] | None
) -> None:
    more = {"model_input_names": inputs} if inputs else {}
    ends = {"tokenizer_config": {**ENDS["tokenizer_config"], **more}}
    folder = write_folder(tmp_path / "it", JUDGE, judge_shapes(), cut, **ends)
    assert inspect(convert(folder, tmp_path / "made.gguf")).role is Role.RERANKER


def test_what_parts_texts_twice_is_told_where_no_separator_is_named(tmp_path: Path) -> None:
    special = [{"SpecialToken": {"id": name}} for name in ("[CLS]", "[SEP]")]
    single = [special[0], {"Sequence": {"id": "A"}}, special[1]]
    template = {"single": single, "pair": [*single, special[1], {"Sequence": {"id": "B"}}, special[1]]}
    cut = word_pieces(lower=False) | {"post_processor": {"type": "TemplateProcessing", **template}}
    ends = {"tokenizer_config": {"bos_token": "[CLS]", "eos_token": "[SEP]"}}
    said = metadata(convert(write_folder(tmp_path / "it", JUDGE, judge_shapes(), cut, **ends), tmp_path / "made.gguf"))
    assert (said["tokenizer.ggml.add_sep_token"], said["tokenizer.ggml.seperator_token_id"]) == (True, 3)


def test_a_head_that_llama_cpp_computes_otherwise_is_left_to_transformers(tmp_path: Path) -> None:
    settings = JUDGE | {"architectures": ["DistilBertForSequenceClassification"], "model_type": "distilbert"}
    with pytest.raises(UnsupportedArchitecture, match="a head that computes relu") as raised:
        convert(write_folder(tmp_path / "it", settings, judge_shapes(), pair(0, 0)), tmp_path / "made.gguf")
    assert "--converter" not in str(raised.value)


def test_a_model_with_more_labels_is_left_to_transformers(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it", JUDGE | {"id2label": {"0": "a", "1": "b"}}, judge_shapes(), pair(0, 0))
    with pytest.raises(UnsupportedFormat, match=r"for classifier.*the engine transformers runs it .*/v1/classify"):
        convert(folder, tmp_path / "made.gguf")


MODERN: dict[str, Any] = {
    "architectures": ["ModernBertModel"], "model_type": "modernbert", "num_hidden_layers": 4, "hidden_act": None,
    "num_key_value_heads": None, "rms_norm_eps": None, "hidden_activation": "gelu", "norm_eps": 1e-6,
    "local_attention": 32, "global_attn_every_n_layers": 2, "global_rope_theta": 80_000, "local_rope_theta": 5_000,
}  # fmt: skip


def modern_shapes(*, judges: bool) -> Shapes:
    before = "model." if judges else ""
    found: Shapes = {f"{before}embeddings.tok_embeddings.weight": (300, 64), f"{before}embeddings.norm.weight": (64,)}
    for layer in range(4):
        inside = {"attn.Wqkv": (192, 64), "attn.Wo": (64, 64), "mlp.Wi": (192, 64), "mlp.Wo": (64, 96)}
        norms = {"mlp_norm": (64,)} | ({"attn_norm": (64,)} if layer else {})
        found |= {f"{before}layers.{layer}.{name}.weight": size for name, size in (inside | norms).items()}
    found[f"{before}final_norm.weight"] = (64,)
    found |= {"head.dense.weight": (64, 64), "head.norm.weight": (64,), "decoder.bias": (300,)}
    return found | ({"classifier.weight": (1, 64), "classifier.bias": (1,)} if judges else {})


def test_modernbert_is_told_of_its_windows(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it", config(**MODERN), modern_shapes(judges=False), tokenizer())
    made = convert(folder, tmp_path / "made.gguf")
    assert inspect(made).role is Role.EMBEDDING
    said = {key.removeprefix("modern-bert."): value for key, value in metadata(made).items()}
    assert said["attention.sliding_window"] == 32
    assert said["attention.sliding_window_pattern"] == [False, True, False, True]
    assert (said["rope.freq_base"], said["rope.freq_base_swa"]) == (80_000, 5_000)
    assert said["attention.layer_norm_epsilon"] == pytest.approx(1e-6)
    assert not [name for name in tensors(made) if name.startswith("cls")]


def test_modernbert_is_told_where_its_layers_are_listed(tmp_path: Path) -> None:
    wide, near = "full_attention", "sliding_attention"
    turns = {wide: {"rope_theta": 70_000.0}, near: {"rope_theta": 6_000.0}}
    listed = {"layer_types": [near, near, wide, near], "rope_parameters": turns, "local_attention": None}
    folder = write_folder(tmp_path / "it", config(**MODERN | listed), modern_shapes(judges=False), tokenizer())
    said = metadata(convert(folder, tmp_path / "made.gguf"))
    assert said["modern-bert.attention.sliding_window_pattern"] == [True, True, False, True]
    assert said["modern-bert.attention.sliding_window"] == 128
    assert (said["modern-bert.rope.freq_base"], said["modern-bert.rope.freq_base_swa"]) == (70_000, 6_000)


JUDGING = MODERN | ONE | {"architectures": ["ModernBertForSequenceClassification"]}


def test_a_reranker_of_modernbert_keeps_its_head(tmp_path: Path) -> None:
    settings = config(**JUDGING | {"classifier_pooling": "mean", "classifier_activation": "silu"})
    folder = write_folder(tmp_path / "it", settings, modern_shapes(judges=True), tokenizer())
    made = convert(folder, tmp_path / "made.gguf")
    assert inspect(made).role is Role.RERANKER
    said, found, source = metadata(made), tensors(made), stored(folder)
    assert said["modern-bert.pooling_type"] == 4
    assert (said["modern-bert.classifier.pooling_type"], said["modern-bert.classifier.activation"]) == (1, "silu")
    for theirs, ours in {"head.dense": "cls", "head.norm": "cls.norm", "classifier": "cls.output"}.items():
        assert np.array_equal(found[f"{ours}.weight"], source[f"{theirs}.weight"])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"attention_bias": True}, r"biases \(attention_bias\)"),
        ({"classifier_pooling": "last"}, "a head that pools by 'last'"),
        ({"classifier_activation": "relu"}, "computes 'relu'"),
        ({"hidden_activation": "relu"}, "the activation 'relu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "positions of type 'yarn' in an encoder"),
    ],
)
def test_a_modernbert_that_llama_cpp_has_not_is_refused(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    folder = write_folder(tmp_path / "it", config(**JUDGING | changed), modern_shapes(judges=True), tokenizer())
    with pytest.raises(UnsupportedArchitecture, match=says):
        convert(folder, tmp_path / "made.gguf")
