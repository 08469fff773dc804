"""The demo model's network: Llama, as plain functions over weights named as Hugging Face names them.

Weights are a dictionary of tensors, so that saving is writing it down and an adapter is a few tensors more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.nn import functional as F  # noqa: N812 - its name everywhere

Weights: TypeAlias = dict[str, torch.Tensor]
Rotation: TypeAlias = tuple[torch.Tensor, torch.Tensor]

TOGETHER = 256
"""Queries that look at their keys at once."""
EMBEDDING, FINAL_NORM = "model.embed_tokens.weight", "model.norm.weight"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the network's size is made of. Embeddings are tied, nothing has a bias."""

    vocabulary: int
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 768
    context: int = 2048
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6

    @property
    def head_size(self) -> int:
        """Numbers in one head."""
        return self.hidden // self.heads

    def config(self, pad_id: int, eos_id: int) -> dict[str, Any]:
        """Hugging Face's `config.json` of this shape."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": None,
            "dtype": "bfloat16",
            "eos_token_id": eos_id,
            "head_dim": self.head_size,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.mlp,
            "max_position_embeddings": self.context,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pad_token_id": pad_id,
            "rms_norm_eps": self.norm_epsilon,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "tie_word_embeddings": True,
            "use_cache": True,
            "vocab_size": self.vocabulary,
        }


class Layer(NamedTuple):
    """The tensors of one layer; the fields' order is that of `LAYER_NAMES`."""

    attention_norm: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor
    mlp_norm: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


LAYER_NAMES = (
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


def layer_weights(weights: Weights, index: int) -> Layer:
    """Layer `index` out of all weights."""
    return Layer(*(weights[f"model.layers.{index}.{name}.weight"] for name in LAYER_NAMES))


def new_weights(shape: Shape, seed: int) -> Weights:
    """Random weights: normal with deviation 0.02, less where a layer adds to the stream (as GPT-2); norms are 1."""
    chance = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int, deviation: float = 0.02) -> torch.Tensor:
        return torch.randn(rows, columns, generator=chance) * deviation

    wide, narrow = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    adding = 0.02 / math.sqrt(2 * shape.layers)
    weights: Weights = {EMBEDDING: normal(shape.vocabulary, shape.hidden)}
    for index in range(shape.layers):
        layer = Layer(
            attention_norm=torch.ones(shape.hidden),
            query=normal(wide, shape.hidden),
            key=normal(narrow, shape.hidden),
            value=normal(narrow, shape.hidden),
            output=normal(shape.hidden, wide, adding),
            mlp_norm=torch.ones(shape.hidden),
            gate=normal(shape.mlp, shape.hidden),
            up=normal(shape.mlp, shape.hidden),
            down=normal(shape.hidden, shape.mlp, adding),
        )
        weights |= {
            f"model.layers.{index}.{name}.weight": tensor for name, tensor in zip(LAYER_NAMES, layer, strict=True)
        }
    weights[FINAL_NORM] = torch.ones(shape.hidden)
    return weights


def rotation(shape: Shape, length: int) -> Rotation:
    """Cosines and sines of the rotary embedding for positions below `length`: each (length, head_size / 2)."""
    speeds = shape.rope_theta ** (-torch.arange(0, shape.head_size, 2) / shape.head_size)
    angles = torch.arange(length)[:, None] * speeds
    return angles.cos(), angles.sin()


def document_mask(documents: torch.Tensor) -> torch.Tensor:
    """What may be looked at, as numbers to add: 0 for earlier tokens of the same document, else minus infinity.

    `documents` (rows, length) names the document of every token; the answer is (rows, 1, length, length).
    """
    length = documents.shape[1]
    seen = documents[:, :, None] == documents[:, None, :]
    seen &= torch.ones(length, length, dtype=torch.bool).tril()
    return torch.zeros(seen.shape).masked_fill_(~seen, -math.inf)[:, None]


def block(x: torch.Tensor, layer: Layer, turned: Rotation, mask: torch.Tensor | None, epsilon: float) -> torch.Tensor:
    """One layer over (rows, length, hidden). Without a mask every token sees all before it.

    Projections of one input run as one product, and queries turn together with keys: fewer, larger steps.
    """
    rows, length, hidden = x.shape
    size = turned[0].shape[1] * 2
    heads, kv_heads = layer.query.shape[0] // size, layer.key.shape[0] // size

    h = F.rms_norm(x, (hidden,), layer.attention_norm, epsilon)
    together = F.linear(h, torch.cat((layer.query, layer.key, layer.value)))
    by_head = together.view(rows, length, heads + 2 * kv_heads, size).transpose(1, 2)
    turning, values = by_head.split((heads + kv_heads, kv_heads), 1)
    queries, keys = _rotated(turning, turned).split((heads, kv_heads), 1)
    seen = _attention(queries, keys, values, mask)
    x = x + F.linear(seen.transpose(1, 2).reshape(rows, length, heads * size), layer.output)

    h = F.rms_norm(x, (hidden,), layer.mlp_norm, epsilon)
    gate, up = F.linear(h, torch.cat((layer.gate, layer.up))).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, layer.down)


def _attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """What every token sees, (rows, heads, length, head_size).

    With a mask as two products and what is between them, compiled with the layer: of heads this small PyTorch's own
    takes up to two thirds of a step on the CPU. Some queries at a time, and none with keys after them.
    """
    rows, heads, length, size = queries.shape
    kv_heads = keys.shape[1]
    if mask is None:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=heads != kv_heads)
    queries = queries / math.sqrt(size)
    parts = []
    for start in range(0, length, TOGETHER):
        end = min(start + TOGETHER, length)
        # Heads that share keys are rows of one product.
        asked = queries[:, :, start:end].reshape(rows, kv_heads, -1, size)
        scores = (asked @ keys[:, :, :end].transpose(2, 3)).view(rows, heads, end - start, end)
        shares = (scores.float() + mask[:, :, start:end, :end]).softmax(-1).to(values.dtype)
        seen = shares.view(rows, kv_heads, -1, end) @ values[:, :, :end]
        parts.append(seen.view(rows, heads, end - start, size))
    return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


def _rotated(x: torch.Tensor, turned: Rotation) -> torch.Tensor:
    """Heads turned by their position; the halves of a head are the two coordinates, as Hugging Face has them."""
    cosines, sines = turned
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), -1)


def hidden_states(
    weights: Weights, shape: Shape, tokens: torch.Tensor, mask: torch.Tensor | None = None, run: Any = block
) -> torch.Tensor:
    """The stream after the last norm, (rows, length, hidden), for `tokens` (rows, length). `run` may be compiled."""
    turned = rotation(shape, tokens.shape[1])
    x = F.embedding(tokens, weights[EMBEDDING])
    for index in range(shape.layers):
        x = run(x, layer_weights(weights, index), turned, mask, shape.norm_epsilon)
    return F.rms_norm(x, (shape.hidden,), weights[FINAL_NORM], shape.norm_epsilon)


def logits(
    weights: Weights, shape: Shape, tokens: torch.Tensor, mask: torch.Tensor | None = None, run: Any = block
) -> torch.Tensor:
    """Scores of every next token, (rows, length, vocabulary)."""
    return F.linear(hidden_states(weights, shape, tokens, mask, run), weights[EMBEDDING])
