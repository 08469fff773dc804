"""A Llama as a folder of ONNX Runtime GenAI, written without its library: configuration and graph, in F32.

The graph is what its builder draws for a Llama: `GroupQueryAttention` of com.microsoft turns queries and keys itself
and keeps the cache. Field numbers are those of onnx.proto3 (ONNX 1.23, IR 10, opset 22).
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, sin, sqrt
from pathlib import Path
from typing import Any, Final

IR: Final = 10
OPSET: Final = 22
FLOAT, INT32, INT64 = 1, 6, 7
"""TensorProto.DataType."""


@dataclass(frozen=True, slots=True)
class Llama:
    """Sizes of a Llama: how wide its vectors are, its layers and heads, the numbers in a head, its tokens.

    context: tokens that it was trained with. end: the token that ends an answer.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    words: int
    context: int
    epsilon: float
    theta: float
    end: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """Weights under their name in Transformers: F32, little-endian, the last size running fastest.

    The graph multiplies from the left: all matrices but the embeddings are turned, columns of Transformers' first.
    """

    name: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def write(folder: Path, llama: Llama, tensors: Iterable[Tensor]) -> Path:
    """Write configuration and graph beside the tokenizer, which must be there or come. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "genai_config.json").write_text(json.dumps(_config(llama), indent=1) + "\n", "utf-8")
    opsets = _bytes(8, _text(1, "") + _int(2, OPSET)) + _bytes(8, _text(1, "com.microsoft") + _int(2, 1))
    (folder / "model.onnx").write_bytes(_int(1, IR) + _text(2, "uml") + opsets + _bytes(7, _graph(llama, tensors)))
    return folder


def _config(llama: Llama) -> dict[str, Any]:
    inputs = {
        "input_ids": "input_ids",
        "attention_mask": "attention_mask",
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }
    outputs = {
        "logits": "logits",
        "present_key_names": "present.%d.key",
        "present_value_names": "present.%d.value",
    }
    return {
        "model": {
            "type": "llama",
            "context_length": llama.context,
            "vocab_size": llama.words,
            "bos_token_id": llama.end,
            "eos_token_id": llama.end,
            "pad_token_id": llama.end,
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": "model.onnx",
                "head_size": llama.head,
                "hidden_size": llama.hidden,
                "num_attention_heads": llama.heads,
                "num_hidden_layers": llama.layers,
                "num_key_value_heads": llama.kv_heads,
                "inputs": inputs,
                "outputs": outputs,
            },
        },
        "search": {"do_sample": False, "max_length": llama.context, "past_present_share_buffer": True},
    }


def _graph(llama: Llama, tensors: Iterable[Tensor]) -> bytes:
    parts = [_text(2, "llama")]
    parts += [_tensor(tensor.name, tensor.data, tensor.shape) for tensor in tensors]
    half = llama.head // 2
    angles = [
        place * llama.theta ** (-2 * index / llama.head) for place in range(llama.context) for index in range(half)
    ]
    parts.append(_tensor("cos_cache", floats([cos(angle) for angle in angles]), (llama.context, half)))
    parts.append(_tensor("sin_cache", floats([sin(angle) for angle in angles]), (llama.context, half)))
    parts.append(_tensor("one", struct.pack("<q", 1), (1,), INT64))
    parts.append(_tensor("first", struct.pack("<q", 1), (), INT64))
    parts += [_bytes(1, node) for node in _nodes(llama)]
    cache = ("batch", llama.kv_heads, "past", llama.head)
    present = ("batch", llama.kv_heads, "total", llama.head)
    parts.append(_value(11, "input_ids", ("batch", "sequence"), INT64))
    parts.append(_value(11, "attention_mask", ("batch", "total"), INT64))
    parts.append(_value(12, "logits", ("batch", "sequence", llama.words)))
    for layer in range(llama.layers):
        for kind in ("key", "value"):
            parts.append(_value(11, f"past_key_values.{layer}.{kind}", cache))
            parts.append(_value(12, f"present.{layer}.{kind}", present))
    return b"".join(parts)


def floats(values: Sequence[float]) -> bytes:
    """Numbers as `Tensor.data` has them."""
    return struct.pack(f"<{len(values)}f", *values)


def _nodes(llama: Llama) -> list[bytes]:
    """The graph's operations, each after what it needs."""
    nodes = [
        _node("ReduceSum", ["attention_mask", "one"], ["seen"], keepdims=0),
        _node("Sub", ["seen", "one"], ["before"]),
        _node("Cast", ["before"], ["lengths"], to=INT32),
        _node("Shape", ["attention_mask"], ["shape"]),
        _node("Gather", ["shape", "first"], ["longest"], axis=0),
        _node("Cast", ["longest"], ["total"], to=INT32),
        _node("Gather", ["model.embed_tokens.weight", "input_ids"], ["hidden.0"]),
    ]
    for layer in range(llama.layers):
        nodes += _layer(llama, layer)
    nodes.append(_norm(llama, f"hidden.{llama.layers}", "model.norm.weight", "last"))
    nodes.append(_node("MatMul", ["last", "lm_head.weight"], ["logits"]))
    return nodes


def _layer(llama: Llama, number: int) -> list[bytes]:
    name, at = f"model.layers.{number}", f"at.{number}"

    def times(vector: str, weight: str, out: str) -> bytes:
        return _node("MatMul", [f"{at}.{vector}", f"{name}.{weight}.weight"], [f"{at}.{out}"])

    past = [f"past_key_values.{number}.{kind}" for kind in ("key", "value")]
    attended = [f"{at}.q", f"{at}.k", f"{at}.v", *past, "lengths", "total", "cos_cache", "sin_cache"]
    present = [f"present.{number}.{kind}" for kind in ("key", "value")]
    return [
        _norm(llama, f"hidden.{number}", f"{name}.input_layernorm.weight", f"{at}.normed"),
        *(times("normed", f"self_attn.{kind}_proj", kind) for kind in "qkv"),
        _node(
            "GroupQueryAttention",
            attended,
            [f"{at}.mixed", *present],
            "com.microsoft",
            num_heads=llama.heads,
            kv_num_heads=llama.kv_heads,
            scale=1 / sqrt(llama.head),
            do_rotary=1,
            rotary_interleaved=0,
        ),
        times("mixed", "self_attn.o_proj", "attention"),
        _node("Add", [f"hidden.{number}", f"{at}.attention"], [f"{at}.between"]),
        _norm(llama, f"{at}.between", f"{name}.post_attention_layernorm.weight", f"{at}.again"),
        times("again", "mlp.gate_proj", "gate"),
        times("again", "mlp.up_proj", "up"),
        _node("Sigmoid", [f"{at}.gate"], [f"{at}.open"]),
        _node("Mul", [f"{at}.gate", f"{at}.open"], [f"{at}.silu"]),
        _node("Mul", [f"{at}.silu", f"{at}.up"], [f"{at}.inner"]),
        times("inner", "mlp.down_proj", "forward"),
        _node("Add", [f"{at}.between", f"{at}.forward"], [f"hidden.{number + 1}"]),
    ]


def _norm(llama: Llama, vector: str, weight: str, out: str) -> bytes:
    return _node("SimplifiedLayerNormalization", [vector, weight], [out], epsilon=llama.epsilon, axis=-1, stash_type=1)


# --- onnx.proto3 --------------------------------------------------------------------------------


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **given: float) -> bytes:
    """A NodeProto; whole numbers become INT attributes (2), others FLOAT (1)."""
    attributes = b"".join(
        _bytes(
            5,
            _text(1, name)
            + (_int(3, value) + _int(20, 2) if isinstance(value, int) else _float(2, value) + _int(20, 1)),
        )
        for name, value in given.items()
    )
    ends = b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, name) for name in outputs)
    return ends + _text(3, outputs[0]) + _text(4, kind) + attributes + (_text(7, domain) if domain else b"")


def _tensor(name: str, data: bytes | memoryview, shape: Sequence[int], kind: int = FLOAT) -> bytes:
    """An initializer; little-endian, as raw_data must be."""
    dims = b"".join(_int(1, size) for size in shape)
    return _bytes(5, dims + _int(2, kind) + _text(8, name) + _bytes(9, data))


def _value(field: int, name: str, shape: Sequence[int | str], kind: int = FLOAT) -> bytes:
    dims = b"".join(_bytes(1, _int(1, size) if isinstance(size, int) else _text(2, size)) for size in shape)
    return _bytes(field, _text(1, name) + _bytes(2, _bytes(1, _int(1, kind) + _bytes(2, dims))))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = array("B")
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return out.tobytes()


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, raw: bytes | memoryview) -> bytes:
    return b"".join((_varint(field << 3 | 2), _varint(len(raw)), raw))


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())
