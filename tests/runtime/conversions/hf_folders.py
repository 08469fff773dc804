"""Small folders of Hugging Face that can be converted, with weights of chance, made by the standard library alone."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.builders import write_json

VOCABULARY = 300
Shapes = dict[str, tuple[int, ...]]


def config(**extra: Any) -> dict[str, Any]:
    """config.json of a Llama with two layers; None leaves a key out."""
    found: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "eos_token_id": [2, 1],
    }
    return {key: value for key, value in (found | extra).items() if value is not None}


def shapes(layers: int = 2) -> Shapes:
    """Weights of that Llama, as torch has them."""
    found: Shapes = {"model.embed_tokens.weight": (VOCABULARY, 64), "model.norm.weight": (64,)}
    for layer in range(layers):
        inside = {
            "self_attn.q_proj": (64, 64),
            "self_attn.k_proj": (32, 64),
            "self_attn.v_proj": (32, 64),
            "self_attn.o_proj": (64, 64),
            "mlp.gate_proj": (96, 64),
            "mlp.up_proj": (96, 64),
            "mlp.down_proj": (64, 96),
            "input_layernorm": (64,),
            "post_attention_layernorm": (64,),
        }
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in inside.items()}
    return found


def tokenizer() -> dict[str, Any]:
    """tokenizer.json of bytes alone, as GPT-2 cuts."""
    letters = byte_letters()
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2} | {letter: 3 + byte for byte, letter in enumerate(letters)}
    added = [{"id": number, "content": piece, "special": True} for piece, number in list(vocab.items())[:3]]
    merges = [["t", "h"], ["th", "e"]]
    vocab |= {"th": len(vocab), "the": len(vocab) + 1}
    return {
        "added_tokens": added,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }


def byte_letters() -> list[str]:
    """GPT-2's letter for each byte: itself where it shows, else one from 256 on."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(256 + hidden.index(byte)) for byte in range(256)]


def write_folder(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    weights: Mapping[str, Sequence[int]] | None = None,
    cut: Mapping[str, Any] | None = None,
    **beside: Any,
) -> Path:
    """A folder with one file of BF16. cut: tokenizer.json. beside: other JSON files, by their stem."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config() if settings is None else settings)
    write_json(folder / "tokenizer.json", tokenizer() if cut is None else cut)
    names = {"eos_token": "</s>", "bos_token": {"content": "<s>"}, "pad_token": "<pad>"}
    write_json(folder / "tokenizer_config.json", {**names, **beside.pop("tokenizer_config", {})})
    for stem, value in beside.items():
        write_json(folder / f"{stem}.json", value)
    header, parts, at = {}, [], 0
    for name, shape in (shapes() if weights is None else weights).items():
        raw = random.Random(name).randbytes(2 * math.prod(shape))
        # The highest bit but the sign's is off: numbers of the size of weights.
        raw = bytes(byte & 0xBF if place % 2 else byte for place, byte in enumerate(raw))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"".join(parts))
    return folder


def write_sentencepiece(path: Path, tokenizer_json: Mapping[str, Any], *, prefixed: bool, kind: int = 2) -> Path:
    """A tokenizer.model with the pieces of a tokenizer.json that was made of one. kind: 2 is BPE, 1 Unigram."""
    model = tokenizer_json["model"]
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        ranks.setdefault("".join(merge), rank)
    out = b""
    for piece in sorted(model["vocab"], key=model["vocab"].__getitem__):
        sort = 2 if piece == "<unk>" else 3 if piece in ("<s>", "</s>") else 6 if piece.startswith("<0x") else 1
        score = struct.pack("<f", -float(ranks.get(piece, len(ranks))))
        out += _message(1, _message(1, piece.encode()) + b"\x15" + score + b"\x18" + bytes([sort]))
    out += _message(2, b"\x18" + bytes([kind]) + b"\x98\x02\x01")  # byte_fallback, field 35
    out += _message(3, b"\x18" + bytes([prefixed]) + b"\x09" + bytes(8))
    path.write_bytes(out)
    return path


def _message(number: int, raw: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
