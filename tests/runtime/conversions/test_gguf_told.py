"""What GGUF is told of positions, windows, encoders and vocabularies; llama.cpp reads each file that is made here.

That the numbers are right is held by `test_gguf_truth`, where Transformers is at hand.
"""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import write_json
from tests.runtime.conversions import llamacpp_reads as engine
from tests.runtime.conversions.hf_folders import Shapes, byte_letters, config, shapes, write_folder, write_sentencepiece
from tests.runtime.conversions.test_gguf import convert, metadata, stored, tensors
from uml.core.errors import BadFile, CorruptFile, UnsupportedArchitecture, UnsupportedFormat
from uml.core.model import Role
from uml.formats import inspect
from uml.runtime.conversions.gguf import pieces, splitting
from uml.runtime.conversions.gguf.rope import llama3
from uml.runtime.conversions.gguf.tokens import Kind

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 24, "beta_slow": 2}


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ({"rope_type": "linear", "factor": 3.0}, {"type": "linear", "factor": 3.0}),
        (
            YARN,
            {"type": "yarn", "factor": 4.0, "original_context_length": 64, "yarn_beta_fast": 24, "yarn_beta_slow": 2},
        ),
        # llama.cpp multiplies by 0.1 ln 4 + 1 whatever it is told.
        (YARN | {"attention_factor": 1.0}, {"attn_factor": pytest.approx(1 / (0.1 * math.log(4) + 1))}),
        (
            YARN | {"mscale": 2.0, "mscale_all_dim": 1.0},
            {"attn_factor": pytest.approx((0.2 * math.log(4) + 1) / (0.1 * math.log(4) + 1) ** 2)},
        ),
        (
            {"type": "longrope", "long_factor": [2.0] * 8, "short_factor": [1] * 8, "attention_factor": 1.5}
            | {"original_max_position_embeddings": 64},
            {"type": "longrope", "original_context_length": 64, "attn_factor": 1.5},
        ),
    ],
)
def test_stretched_positions(tmp_path: Path, positions: dict[str, Any], expected: dict[str, Any]) -> None:
    found = metadata(convert(write_folder(tmp_path / "it", config(rope_scaling=positions)), tmp_path / "made.gguf"))
    assert {key: found[f"llama.rope.scaling.{key}"] for key in expected} == expected


def test_factors_of_positions_are_tensors(tmp_path: Path) -> None:
    given = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    given |= {"original_max_position_embeddings": 64, "rope_theta": 10_000.0}
    made = convert(write_folder(tmp_path / "it", config(rope_parameters=given)), tmp_path / "made.gguf")
    found = tensors(made)["rope_freqs.weight"]
    # Turns that fit into the old context several times stay, those that never end there are slowed by the factor.
    assert found[0] == 1.0 and found[-1] == 8.0 and 1.0 < found[1] < 8.0
    assert found.tolist() == pytest.approx(llama3(given, 10_000.0, 16))
    assert "llama.rope.scaling.type" not in metadata(made)


GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh",
    "hidden_act": None, "head_dim": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 2, "sliding_window": 32,
}  # fmt: skip


def gemma_shapes() -> Shapes:
    found = shapes()
    for layer in range(2):
        inside = f"model.layers.{layer}"
        found |= {f"{inside}.self_attn.{one}_norm.weight": (16,) for one in "qk"}
        found |= {f"{inside}.{one}_feedforward_layernorm.weight": (64,) for one in ("pre", "post")}
    return found


def test_gemma_has_shifted_norms_windows_and_two_bases(tmp_path: Path) -> None:
    kinds = {"layer_types": ["sliding_attention", "full_attention"], "rope_local_base_freq": 5000.0}
    folder = write_folder(tmp_path / "it", config(**GEMMA3, **kinds), gemma_shapes())
    made = convert(folder, tmp_path / "made.gguf")
    source, found, said = stored(folder), tensors(made), metadata(made)
    norm = source["model.layers.1.pre_feedforward_layernorm.weight"]
    assert np.array_equal(found["blk.1.ffn_norm.weight"], norm + np.float32(1))
    assert "blk.0.post_attention_norm.weight" in found and "blk.0.post_ffw_norm.weight" in found
    assert said["gemma3.attention.sliding_window"] == 32
    assert said["gemma3.attention.sliding_window_pattern"] == [True, False]
    assert (said["gemma3.rope.freq_base"], said["gemma3.rope.freq_base_swa"]) == (1e6, 5000.0)


def test_eyes_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    inner = config(**GEMMA3, layer_types=["sliding_attention", "full_attention"])
    inner.pop("architectures")
    whole = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": inner,
        "vision_config": {"hidden_size": 16},
    }
    language = {f"model.language_model.{name.removeprefix('model.')}": size for name, size in gemma_shapes().items()}
    eyes = {"model.vision_tower.layer.weight": (4, 4), "model.multi_modal_projector.weight": (4, 4)}
    notes: list[str] = []
    convert(write_folder(tmp_path / "it", whole, {**language, **eyes}), tmp_path / "made.gguf", notes=notes)
    assert notes == ["only its language model is converted: it will see no images"]


def encoder_shapes(offset: int = 0) -> Shapes:
    found: Shapes = {
        "embeddings.word_embeddings.weight": (40, 64),
        "embeddings.position_embeddings.weight": (64 + offset, 64),
        "embeddings.token_type_embeddings.weight": (2, 64),
        "embeddings.LayerNorm.gamma": (64,),
        "embeddings.LayerNorm.beta": (64,),
        "pooler.dense.weight": (64, 64),
    }
    for layer in range(2):
        inside = f"encoder.layer.{layer}"
        linear = {"attention.self.query": (64, 64), "attention.self.key": (64, 64), "attention.self.value": (64, 64)}
        linear |= {"attention.output.dense": (64, 64), "intermediate.dense": (96, 64), "output.dense": (64, 96)}
        for name, size in linear.items():
            found |= {f"{inside}.{name}.weight": size, f"{inside}.{name}.bias": size[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            found |= {f"{inside}.{name}.weight": (64,), f"{inside}.{name}.bias": (64,)}
    return found


ENCODER = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "num_key_value_heads": None,
    "max_position_embeddings": 64, "vocab_size": 40, "type_vocab_size": 2, "eos_token_id": None,
}  # fmt: skip
ENDS = {"tokenizer_config": {"cls_token": "[CLS]", "sep_token": "[SEP]", "bos_token": None, "eos_token": None}}


def word_pieces(*, lower: bool) -> dict[str, Any]:
    letters = [*"abcdefghij", *(f"##{letter}" for letter in "abcdefghij"), "##ing"]
    vocab = {piece: number for number, piece in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters))}
    return {
        "added_tokens": [{"id": n, "content": p, "special": True} for p, n in vocab.items() if p.startswith("[")],
        "normalizer": {"type": "BertNormalizer", "lowercase": lower, "strip_accents": None},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]},
        "model": {"type": "WordPiece", "vocab": vocab, "continuing_subword_prefix": "##", "unk_token": "[UNK]"},
    }


def test_an_encoder_with_word_pieces(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it", config(**ENCODER), encoder_shapes(), word_pieces(lower=True), **ENDS)
    notes: list[str] = []
    made = convert(folder, tmp_path / "made.gguf", notes=notes)
    assert inspect(made).role is Role.EMBEDDING
    said = metadata(made)
    assert said["bert.pooling_type"] == 1 and any("how it pools" in note for note in notes)
    assert any("Korean" in note for note in notes)
    assert said["tokenizer.ggml.token_type_count"] == 2 and said["bert.attention.causal"] is False
    assert said["tokenizer.ggml.normalizer.lowercase"] is True
    assert said["tokenizer.ggml.tokens"][4] == "\u2581a" and said["tokenizer.ggml.tokens"][14] == "a"
    found, source = tensors(made), stored(folder)
    assert np.array_equal(found["token_embd_norm.bias"], source["embeddings.LayerNorm.beta"])
    assert not [name for name in found if "pooler" in name]
    # "Bad" is b ##a ##d, between what begins and ends a text.
    assert engine.cut(made, ["Bad", "q"], special=True) == [[2, 5, 14, 17, 3], [2, 1, 3]]


def unigram(**normalizer: Any) -> dict[str, Any]:
    listed = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581", -3.0], ["\u2581the", -4.0]]
    listed += [[letter, -5.0 - place / 10] for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz")]
    return {
        "added_tokens": [{"id": n, "content": p, "special": True} for n, (p, _) in enumerate(listed[:4])],
        "normalizer": normalizer or None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "prepend_scheme": "always"}],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>"}},
                {"Sequence": {"id": "A"}},
                {"SpecialToken": {"id": "</s>"}},
            ],
        },
        "model": {"type": "Unigram", "vocab": listed, "unk_id": 3},
    }


def test_an_encoder_whose_positions_begin_after_padding_with_the_likeliest_pieces(tmp_path: Path) -> None:
    settings = config(**ENCODER | {"architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta"})
    settings |= {"pad_token_id": 1, "max_position_embeddings": 66}
    charsmap = base64.b64encode(b"\0\4\0\0" + bytes(1024 + 1)).decode()  # a table without entries
    cut = unigram(type="Precompiled", precompiled_charsmap=charsmap)
    folder = write_folder(tmp_path / "it", settings, encoder_shapes(2), cut)
    made = convert(folder, tmp_path / "made.gguf")
    said = metadata(made)
    assert said["bert.context_length"] == 64
    assert said["tokenizer.ggml.precompiled_charsmap"] == list(base64.b64decode(charsmap))
    expected = stored(folder)["embeddings.position_embeddings.weight"][2:]
    assert np.array_equal(tensors(made)["position_embd.weight"], expected)
    assert engine.cut(made, ["the cat?"], special=True) == [[0, 5, 4, 8, 6, 25, 3, 2]]


RERANKER = {
    "architectures": ["XLMRobertaForSequenceClassification"], "model_type": "xlm-roberta", "type_vocab_size": 1,
    "id2label": {"0": "LABEL_0"}, "pad_token_id": 1, "max_position_embeddings": 66,
}  # fmt: skip


def reranker_shapes() -> Shapes:
    body = {f"roberta.{name}": size for name, size in encoder_shapes(2).items() if "pooler" not in name}
    head = {"dense.weight": (64, 64), "dense.bias": (64,), "out_proj.weight": (1, 64), "out_proj.bias": (1,)}
    types = {"roberta.embeddings.token_type_embeddings.weight": (1, 64)}
    return {**body, **types, **{f"classifier.{name}": size for name, size in head.items()}}


@pytest.mark.parametrize(("between", "doubled"), [(2, True), (1, False)])
def test_a_reranker_keeps_its_head_and_what_stands_between_query_and_document(
    tmp_path: Path, between: int, doubled: bool
) -> None:
    cut, end = unigram(), {"SpecialToken": {"id": "</s>"}}
    query, document = {"Sequence": {"id": "A"}}, {"Sequence": {"id": "B"}}
    pair = [{"SpecialToken": {"id": "<s>"}}, query, *([end] * between), document, end]
    cut["post_processor"] = {**cut["post_processor"], "pair": pair}
    named = {"tokenizer_config": {"cls_token": "<s>", "sep_token": "</s>", "bos_token": "<s>", "eos_token": "</s>"}}
    folder = write_folder(tmp_path / "it", config(**ENCODER | RERANKER), reranker_shapes(), cut, **named)
    notes: list[str] = []
    made = convert(folder, tmp_path / "made.gguf", notes=notes)
    assert inspect(made).role is Role.RERANKER and not any("how it pools" in note for note in notes)
    said, found, source = metadata(made), tensors(made), stored(folder)
    assert (said["bert.pooling_type"], said["tokenizer.ggml.add_sep_token"]) == (4, doubled)
    assert np.array_equal(found["cls.weight"], source["classifier.dense.weight"])
    assert np.array_equal(found["cls.output.weight"], source["classifier.out_proj.weight"])
    assert engine.rank(made, [0, 5, 2, 2, 6, 2]) != engine.rank(made, [0, 5, 2, 2, 7, 2])


def test_a_reranker_that_marks_its_texts_is_refused(tmp_path: Path) -> None:
    settings = config(**ENCODER | RERANKER | {"type_vocab_size": 2})
    with pytest.raises(UnsupportedArchitecture, match="types of tokens, by which a reranker tells query and document"):
        convert(write_folder(tmp_path / "it", settings, reranker_shapes(), unigram()), tmp_path / "made.gguf")


def sentencepiece() -> dict[str, Any]:
    pieces_ = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abc", "ab", "\u2581ab"]
    merges = [["a", "b"], ["\u2581", "ab"], ["\u2581a", "b"]][:2]
    return {
        "added_tokens": [{"id": n, "content": p, "special": True} for n, p in enumerate(pieces_[:3])],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "content": "\u2581"}],
        },
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": {piece: number for number, piece in enumerate(pieces_)},
            "merges": merges,
        },
    }


@pytest.mark.parametrize("alone", [False, True])
def test_pieces_of_sentencepiece_from_either_file(tmp_path: Path, alone: bool) -> None:
    folder = write_folder(tmp_path / "it", cut=sentencepiece())
    if alone:
        (folder / "tokenizer.json").unlink()
        write_sentencepiece(folder / "tokenizer.model", sentencepiece(), prefixed=True)
        decoder = {"3": {"content": "<0x00>"}, "265": {"content": "<think>"}, "400": {"content": "<far>"}}
        write_json(folder / "tokenizer_config.json", {"added_tokens_decoder": decoder, "eos_token": "</s>"})
        write_json(folder / "added_tokens.json", {"<|tool|>": 266})
    notes: list[str] = []
    made = convert(folder, tmp_path / "made.gguf", notes=notes)
    said = metadata(made)
    assert said["tokenizer.ggml.model"] == "llama" and said["tokenizer.ggml.add_space_prefix"] is True
    kinds = said["tokenizer.ggml.token_type"]
    assert [kinds[number] for number in (0, 1, 13, 260)] == [Kind.UNKNOWN, Kind.CONTROL, Kind.BYTE, Kind.NORMAL]
    if alone:
        assert [kinds[number] for number in (265, 266)] == [Kind.USER_DEFINED, Kind.CONTROL]
        assert notes == ["tokens without a weight are left out: <far>"]
        assert said["tokenizer.ggml.add_bos_token"] is True
    # " ab" and its byte fallback: "é" is two bytes.
    assert engine.cut(made, ["ab é"], special=False) == [[264, 259, 3 + 0xC3, 3 + 0xA9]]


def test_a_tokenizer_model_that_is_none_is_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it", cut={})
    for raw in (b"", b"\x0a\xff\xff", b"\x0f", b"\x0a\x02\x0d\x00", b"\xff" * 12, b"\x0a\x03\x10\x01\x00"):
        (folder / "tokenizer.model").write_bytes(raw)
        with pytest.raises(CorruptFile, match=r"SentencePiece"):
            convert(folder, tmp_path / "made.gguf")
    write_sentencepiece(folder / "tokenizer.model", sentencepiece(), prefixed=True, kind=1)
    with pytest.raises(UnsupportedArchitecture, match="Unigram model of SentencePiece without"):
        convert(folder, tmp_path / "made.gguf")
    with (folder / "tokenizer.model").open("r+b") as file:
        file.truncate(pieces.MAX_BYTES + 1)
    with pytest.raises(BadFile, match="at most"):
        convert(folder, tmp_path / "made.gguf")


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}, "model": {"type": "BPE"}}


def split(expression: str, **how: Any) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False, **how}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def test_ways_to_cut_have_names() -> None:
    digits = {"type": "Digits", "individual_digits": True}
    assert splitting.name(sequence(digits, BYTES | {"use_regex": True})) == "smollm"
    # With line ends as they are, or spelled; matches kept apart, or all else removed.
    spelled = splitting.QWEN2.replace(r"\r", "\r").replace(r"\n", "\n")
    assert splitting.name(sequence(split(spelled), BYTES)) == "qwen2"
    assert splitting.name(sequence(split(splitting.QWEN2, behavior="Removed", invert=True), BYTES)) == "qwen2"
    whole = sequence(split(splitting.LLAMA3), BYTES)
    assert splitting.name(whole) == "smaug-bpe"
    assert splitting.name(whole | {"model": {"ignore_merges": True}}) == "llama-bpe"
    assert splitting.name(sequence(split(splitting.TEKKEN), BYTES)) == "tekken"
    with pytest.raises(splitting.Unknown, match="ignoring merges"):
        splitting.name(sequence(split(splitting.QWEN2), BYTES) | {"model": {"ignore_merges": True}})
    with pytest.raises(splitting.Unknown, match="cut by Punctuation"):
        splitting.name(sequence({"type": "Punctuation"}, BYTES))


def test_letters_of_bytes_are_all_different() -> None:
    assert len(set(byte_letters())) == 256


def test_weights_of_other_types_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it")
    raw = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    entry = header["model.norm.weight"]
    entry |= {"dtype": "I8", "shape": [128]}
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + raw[8 + length :])
    with pytest.raises(UnsupportedFormat, match=r"model\.norm\.weight is I8; F32, F16, BF16 and FP8"):
        convert(folder, tmp_path / "made.gguf")


def test_a_tokenizer_that_is_no_json_is_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptFile, match="no JSON"):
        convert(folder, tmp_path / "made.gguf")
    (folder / "tokenizer.json").write_text("[]")
    with pytest.raises(CorruptFile, match="JSON of type list"):
        convert(folder, tmp_path / "made.gguf")
