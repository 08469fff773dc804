"""A model to try an engine with: a Llama of 213,000 weights that are drawn by a rule, so that its answer is known.

Written here rather than kept: safetensors, a byte-level tokenizer of 64 characters, F32. The answer was computed by
hand (tests/runtime/installs/reference.py) and by Transformers 5.23 in F32, BF16 and F16; of the seeds from 0 this is
the first whose closest call between two tokens (0.28) leaves room for such differences.
"""

from __future__ import annotations

import json
import random
import string
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

SEED: Final = 5
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD, FEED, WORDS, CONTEXT = 128, 2, 2, 1, 64, 128, 64, 256
EPSILON: Final = 1e-5
THETA: Final = 10_000.0
CHARACTERS: Final = string.ascii_lowercase + string.ascii_uppercase + string.digits + ".,"
"""Token ids are places in it; the last one ends an answer."""
PROMPT: Final = "uml"
ANSWER: Final = "vkcHjtDk2XTtDk2X"
"""What follows the prompt, greedily."""

CONFIG: Final[dict[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": FEED,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD,
    "vocab_size": WORDS,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": EPSILON,
    "rope_theta": THETA,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": WORDS - 1,
    "dtype": "float32",
}

Matrix = list[list[float]]
Tensor = tuple[str, str, tuple[int, ...], bytes]
"""Name, type, shape and bytes, as safetensors has them."""


def weights(seed: int = SEED) -> Iterator[tuple[str, Matrix]]:
    """Every tensor by its name, rows first; a vector has one row. Drawn uniformly, as Python promises not to change.

    Of a matrix the deviation is 1 over the root of its width, as if trained for nothing; the output's is thrice that,
    so that calls are less close.
    """
    draw = random.Random(seed).random  # noqa: S311 - no secret

    def matrix(rows: int, columns: int, gain: float = 1.0) -> Matrix:
        scale = gain * (12 / columns) ** 0.5
        return [[(draw() - 0.5) * scale for _ in range(columns)] for _ in range(rows)]

    ones = [[1.0] * HIDDEN]
    yield "model.embed_tokens.weight", matrix(WORDS, HIDDEN, HIDDEN**0.5)
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        yield f"{name}.input_layernorm.weight", ones
        yield f"{name}.self_attn.q_proj.weight", matrix(HEADS * HEAD, HIDDEN)
        yield f"{name}.self_attn.k_proj.weight", matrix(KV_HEADS * HEAD, HIDDEN)
        yield f"{name}.self_attn.v_proj.weight", matrix(KV_HEADS * HEAD, HIDDEN)
        yield f"{name}.self_attn.o_proj.weight", matrix(HIDDEN, HEADS * HEAD)
        yield f"{name}.post_attention_layernorm.weight", ones
        yield f"{name}.mlp.gate_proj.weight", matrix(FEED, HIDDEN)
        yield f"{name}.mlp.up_proj.weight", matrix(FEED, HIDDEN)
        yield f"{name}.mlp.down_proj.weight", matrix(HIDDEN, FEED)
    yield "model.norm.weight", ones
    yield "lm_head.weight", matrix(WORDS, HIDDEN, 3.0)


def write(folder: Path) -> Path:
    """Write the model into a folder, which is made. Raises OSError."""
    return write_with(folder, CONFIG, _tensors())


def _tensors() -> Iterator[Tensor]:
    for name, rows in weights():
        shape = (len(rows), len(rows[0])) if len(rows) > 1 else (len(rows[0]),)
        yield name, "F32", shape, b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)


def write_with(folder: Path, config: Mapping[str, Any], tensors: Iterable[Tensor]) -> Path:
    """Write a model with the tiny one's words into a folder, which is made. Raises OSError."""
    write_tokenizer(folder)
    _json(folder / "config.json", config)
    _json(folder / "generation_config.json", {"eos_token_id": WORDS - 1, "do_sample": False})
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, kind, shape, data in tensors:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + body)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write the files of its tokenizer into a folder, which is made. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    _json(folder / "tokenizer.json", _tokenizer())
    _json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": CHARACTERS[-1], "model_max_length": CONTEXT},
    )


def _tokenizer() -> dict[str, Any]:
    """Byte-level, a token a character, nothing merged and nothing added."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    last = {"id": WORDS - 1, "content": CHARACTERS[-1], "single_word": False, "lstrip": False, "rstrip": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**last, "normalized": False, "special": True}],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {character: index for index, character in enumerate(CHARACTERS)},
            "merges": [],
        },
    }


def _json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
