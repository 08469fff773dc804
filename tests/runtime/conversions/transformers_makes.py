"""Tiny random models of many architectures, and what Transformers says of them: run by its interpreter.

`python transformers_makes.py OUT`. For each case a folder OUT/NAME with the model as it is saved, `tokens.json`, what
goes in, and `truth.json`, the scores that come out (for encoders the vector, for rerankers one score for each part, and
`judged.json`, a query and documents with their scores).
Weights are numbers that bfloat16 holds, so that what is computed here in float32 is exactly what the files say. Large
enough that attention, positions, norms and biases all matter to the result.
"""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file as load
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VOCABULARY = 320
LENGTH = 48
PARTS = (6, 17, 30, 48)
"""A reranker scores so much of the tokens."""
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def long_rope(original: int) -> dict[str, Any]:
    """LongRoPE of 8 pairs; texts longer than `original` take the long factors."""
    return {
        "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": original,
        "long_factor": [1.0 + pair for pair in range(8)], "short_factor": [1.0 + pair / 10 for pair in range(8)],
    }  # fmt: skip


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama-biases": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True, "head_dim": 32}),
    "llama-tied": ("LlamaForCausalLM", {"tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "llama-linear": (
        "LlamaForCausalLM",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}},
    ),
    "llama-yarn": ("LlamaForCausalLM", {"rope_parameters": YARN}),
    "mistral": ("MistralForCausalLM", {"head_dim": 32, "sliding_window": None}),
    "mixtral": ("MixtralForCausalLM", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 8}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen2-yarn": ("Qwen2ForCausalLM", {"rope_parameters": {**YARN, "attention_factor": 0.7}}),
    "qwen2-moe": ("Qwen2MoeForCausalLM", {**EXPERTS, "shared_expert_intermediate_size": 64, "norm_topk_prob": False}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3-moe": ("Qwen3MoeForCausalLM", {**EXPERTS, "head_dim": 32, "norm_topk_prob": True}),
    "gemma": ("GemmaForCausalLM", {"head_dim": 32, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": ("Gemma2ForCausalLM", {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}),
    "gemma3": (
        "Gemma3ForCausalLM",
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16, "num_hidden_layers": 7},
    ),
    "gemma3-linear": (
        "Gemma3ForCausalLM",
        {
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 16,
            "num_hidden_layers": 6,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "gemma3-seeing": (
        "Gemma3ForConditionalGeneration",
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16, "num_hidden_layers": 6},
    ),
    "phi3": ("Phi3ForCausalLM", {"sliding_window": None}),
    "phi3-long": ("Phi3ForCausalLM", {"sliding_window": None, "rope_parameters": long_rope(32)}),
    "phi3-short": (
        "Phi3ForCausalLM",
        {"sliding_window": None, "max_position_embeddings": 512, "rope_parameters": long_rope(256)},
    ),
    "phi3-partial": (
        "Phi3ForCausalLM",
        {"head_dim": 32, "hidden_size": 128, "partial_rotary_factor": 0.5, "sliding_window": None},
    ),
    "bert": ("BertModel", {"type_vocab_size": 2, "hidden_act": "gelu"}),
    "roberta": ("RobertaModel", {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0}),
    "xlm-roberta": ("XLMRobertaModel", {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0}),
    "camembert": ("CamembertModel", {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0}),
    "modernbert": ("ModernBertModel", {"local_attention": 16, "num_hidden_layers": 7}),
    "modernbert-rerank": (
        "ModernBertForSequenceClassification",
        {"local_attention": 16, "num_hidden_layers": 7, "num_labels": 1, "classifier_pooling": "mean"},
    ),
    "modernbert-silu-rerank": (
        "ModernBertForSequenceClassification",
        {
            "local_attention": 16,
            "num_hidden_layers": 4,
            "num_labels": 1,
            "hidden_activation": "silu",
            "classifier_activation": "silu",
        },
    ),
    "bert-rerank": ("BertForSequenceClassification", {"type_vocab_size": 2, "num_labels": 1}),
    "camembert-rerank": ("CamembertForSequenceClassification", {"type_vocab_size": 1, "num_labels": 1}),
    "roberta-rerank": ("RobertaForSequenceClassification", {"type_vocab_size": 1, "num_labels": 1}),
    "xlm-roberta-rerank": (
        "XLMRobertaForSequenceClassification",
        {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "num_labels": 1},
    ),
}
"""Name -> class, and what is special about its configuration."""


def compressed(strategy: str) -> dict[str, Any]:
    """How compressed-tensors says that weights are of FP8."""
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False, "strategy": strategy}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {
        "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
        "config_groups": groups, "ignore": ["lm_head"],
    }  # fmt: skip


FINE = {"quant_method": "fp8", "activation_scheme": "dynamic"}
CODED: dict[str, tuple[str, dict[str, Any], str, tuple[int, int]]] = {
    "llama-fp8": ("llama", {**FINE, "weight_block_size": [32, 32]}, "_scale_inv", (32, 32)),
    "llama-fp8-whole": ("llama", {**FINE, "weight_block_size": None}, "_scale_inv", (0, 0)),
    "llama-fp8-row": ("llama", compressed("channel"), "_scale", (1, 0)),
    "llama-fp8-tensor": ("llama", compressed("tensor"), "_scale", (0, 0)),
    "qwen3-moe-fp8": ("qwen3-moe", {**FINE, "weight_block_size": [16, 32]}, "_scale_inv", (16, 32)),
}
"""Name -> case above whose weights are made FP8, what config.json says of it, and what scales are called and stand for
(rows and columns; 0: all).
"""


WORDS = ("bert", "bert-rerank")
"""Cases with a tokenizer of word pieces."""


QUERY = "where did the cat sit"
DOCUMENTS = [
    "the cat sat on the mat", "a dog", "on the log and on the mat and on the log", "cats", "the the the", "not at all",
]  # fmt: skip


def byte_tokenizer() -> Tokenizer:
    """A byte-level tokenizer as Qwen's, of all bytes and a few merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern=__import__("tokenizers").Regex(QWEN2), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog on the log"] * 3, trainer)
    return tokenizer


def word_tokenizer() -> Tokenizer:
    """A tokenizer as BERT's."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(97, 123))]
    pieces += ["##" + chr(letter) for letter in range(97, 123)] + ["the", "cat", "##ing"]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def unigram_tokenizer() -> Tokenizer:
    """A tokenizer as that of XLM-RoBERTa, without its table of characters."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(chr(letter), -3.0 - letter / 100) for letter in range(97, 123)] + [("\u2581the", -2.5), ("at", -2.6)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)])
    return tokenizer


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Weights that make a difference, norms around one, biases around zero; all of them numbers of bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim > 1:
            value = noise * (1.0 if "embed" in name else 1.2 * weight.shape[-1] ** -0.5)
        elif "norm" in name.lower() and name.endswith("weight"):
            value = noise * 0.2 + weight.detach().mean()
        else:
            value = noise * 0.2
        weight.data = value.to(torch.bfloat16).to(torch.float32)


def make(out: Path, name: str) -> None:
    """One case."""
    kind, special = CASES[name]
    torch.manual_seed(0)
    transformers_class = getattr(transformers, kind)
    given = {**SMALL, **special}
    if name.endswith("seeing"):
        eyes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
        given = {"text_config": given, "vision_config": {**eyes, "image_size": 28, "patch_size": 14}}
    config = transformers_class.config_class(**given)
    config._attn_implementation = "eager"
    model = transformers_class(config).eval()
    randomize(model, sum(map(ord, name)))
    folder = out / name / "model"
    encoder = kind.endswith("Model")
    tokenizer = word_tokenizer() if name in WORDS else unigram_tokenizer() if "xlm" in name else byte_tokenizer()
    names: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    if name in WORDS:
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    if name.endswith("rerank") and name not in WORDS:
        names["model_input_names"] = ["input_ids", "attention_mask"]
        between = "" if name.startswith("modern") else "</s> "
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair=f"<s> $A </s> {between}$B </s>",
            special_tokens=[(one, tokenizer.token_to_id(one)) for one in ("<s>", "</s>")],
        )
    cutter = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    cutter.save_pretrained(folder)
    chance = random.Random(name)
    tokens = [chance.randrange(5, 60) for _ in range(LENGTH)]
    with torch.no_grad():
        said = model(torch.tensor([tokens]))
        if name.endswith("rerank"):
            truth = torch.cat([model(torch.tensor([tokens[:length]])).logits[0] for length in PARTS])
            scored = [model(**cutter(QUERY, one, return_tensors="pt")).logits.item() for one in DOCUMENTS]
            judged = {"query": QUERY, "documents": DOCUMENTS, "scores": scored}
            (out / name / "judged.json").write_text(json.dumps(judged))
        else:
            truth = said.last_hidden_state[0].mean(0) if encoder else said.logits[0]
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="40KB")
    (out / name / "tokens.json").write_text(json.dumps(tokens))
    (out / name / "truth.json").write_text(json.dumps(truth.tolist()))


def code(out: Path, name: str) -> None:
    """One case whose projections are made FP8, and the scores of what they stand for; `original.json` has those before.

    Where Transformers can make whole numbers of the codes itself, it must come to the same.
    """
    case, said, end, block = CODED[name]
    folder, plain = out / name / "model", out / name / "plain"
    for place in (folder, plain):
        shutil.copytree(out / case / "model", place, ignore=shutil.ignore_patterns("*.safetensors*"))
    weights = {key: value for file in (out / case / "model").glob("*.safetensors") for key, value in load(file).items()}
    whole = {key: value.float() for key, value in weights.items()}
    for key in [key for key in weights if key.endswith("proj.weight")]:
        weights[key], scales = codes(whole[key], *block)
        weights[key + end] = scales if scales.numel() > 1 else scales.reshape(())
        whole[key] = weights[key].float() * spread(scales, *whole[key].shape)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    save_file(whole, plain / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": said}))
    tokens = json.loads((out / case / "tokens.json").read_text())
    truth = scores(plain, tokens)
    if said["quant_method"] == "fp8" or importlib.util.find_spec("compressed_tensors"):
        kind = "FineGrainedFP8Config" if said["quant_method"] == "fp8" else "CompressedTensorsConfig"
        theirs = scores(folder, tokens, quantization_config=getattr(transformers, kind)(dequantize=True))
        assert theirs.equal(truth), f"{name}: {(theirs - truth).abs().max()}"
        print(f"{name}: as Transformers loads it")
    (out / name / "tokens.json").write_text(json.dumps(tokens))
    (out / name / "truth.json").write_text(json.dumps(truth.tolist()))
    shutil.copy(out / case / "truth.json", out / name / "original.json")


def codes(weight: torch.Tensor, down: int, wide: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of E4M3 and what they are multiplied by, so that the largest of each block is the largest code."""
    rows, columns = weight.shape
    down, wide = down or rows, wide or columns
    blocks = weight.reshape(rows // down, down, columns // wide, wide)
    scales = blocks.abs().amax((1, 3), keepdim=True) / 448
    found = (blocks / scales).to(torch.float8_e4m3fn).reshape(rows, columns)
    return found, scales.reshape(rows // down, columns // wide)


def spread(scales: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The scale of each weight."""
    down, across = scales.shape
    return scales.repeat_interleave(rows // down, 0).repeat_interleave(columns // across, 1)


def scores(folder: Path, tokens: list[int], **how: Any) -> torch.Tensor:
    """Of the whole vocabulary after each token, in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **how
    )
    with torch.no_grad():
        return model.float().eval()(torch.tensor([tokens])).logits[0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for case in sys.argv[2:] or CASES:
        make(Path(sys.argv[1]), case)
    for case in () if sys.argv[2:] else CODED:
        code(Path(sys.argv[1]), case)
