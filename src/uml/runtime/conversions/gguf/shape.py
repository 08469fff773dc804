"""What config.json says of a model's shape, as GGUF metadata; and what llama.cpp would compute otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from uml.core.model import Shape
from uml.formats.bounded_json import count, number, text
from uml.formats.gguf.values import f32, flag, flags, u32
from uml.formats.gguf.values import text as string
from uml.formats.hf import config as hf_config
from uml.runtime.conversions.gguf.families import Family
from uml.runtime.conversions.gguf.rope import Rope, Uncomputed, Untold, rope
from uml.runtime.conversions.gguf.source import Json, Source
from uml.runtime.conversions.gguf.special import marked

BIASES: Final = ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")
WIDE_LAYERS: Final = 3
"""Of so many layers of ModernBERT one sees everything, where its configuration does not say."""
LOCAL_ATTENTION: Final = 128
"""How much its others see."""


@dataclass(frozen=True, slots=True)
class Told:
    """keys: whole metadata of the architecture. rope: what is turned. notes: what is lost, in sentences."""

    keys: dict[str, bytes]
    shape: Shape
    rope: Rope
    notes: tuple[str, ...]


def told(family: Family, source: Source) -> Told:
    """Metadata of the shape. Raises Untold for what llama.cpp would compute in another way."""
    config, shape = source.config, hf_config.shape(source.whole)
    if shape is None or not shape.heads:
        raise Untold("a configuration without layers, heads and width")
    same_computation(family, config, shape)
    if family.ranks and count(config, "type_vocab_size") > 1 and marked(source):
        raise Uncomputed("types of tokens, by which a reranker tells query and document apart")
    notes: list[str] = []
    context = count(config, "max_position_embeddings")
    keys = {
        "context_length": u32(context),
        "embedding_length": u32(shape.embedding),
        "block_count": u32(shape.layers),
        "feed_forward_length": u32(shape.feed_forward),
        "attention.head_count": u32(shape.heads),
    }
    if family.encoder:
        turns = rope(family, config, shape.key_length) if family.local_theta else Rope()
        keys |= _encoder(family, source, context) | turns.keys | _sights(family, config, shape)
    else:
        turns = rope(family, config, shape.key_length)
        keys["attention.head_count_kv"] = u32(max(shape.kv_heads))
        keys |= turns.keys
        keys["attention.layer_norm_rms_epsilon"] = f32(number(config, "rms_norm_eps") or family.epsilon)
        keys["vocab_size"] = u32(_rows(source, "embed_tokens.weight"))
        if shape.key_length * shape.heads != shape.embedding:
            keys |= {"attention.key_length": u32(shape.key_length), "attention.value_length": u32(shape.key_length)}
        keys |= _experts(config, shape) | _caps(family, config) | _windows(family, config, shape, context, notes)
    keys = {f"{family.name}.{key}": value for key, value in keys.items()}
    if family.name == "bert":
        keys["tokenizer.ggml.token_type_count"] = u32(count(config, "type_vocab_size") or 1)
    return Told(keys, shape, turns, (*notes, *turns.notes))


def _encoder(family: Family, source: Source, context: int) -> dict[str, bytes]:
    config, found = source.config, {}
    if family.position_offset:
        found["context_length"] = u32(context - offset(config))
    found["attention.layer_norm_epsilon"] = f32(number(config, "layer_norm_eps", "norm_eps") or family.epsilon)
    found["attention.causal"] = flag(False)
    return found


def _sights(family: Family, config: Json, shape: Shape) -> dict[str, bytes]:
    """How far layers of an encoder see: all of it, or half a window to either side."""
    if not family.windows:
        return {}
    kinds, period = config.get("layer_types"), count(config, "global_attn_every_n_layers") or WIDE_LAYERS
    if not isinstance(kinds, list) or len(kinds) != shape.layers:
        kinds = ["sliding_attention" if layer % period else "full_attention" for layer in range(shape.layers)]
    sliding = [kind != "full_attention" for kind in kinds]
    return {
        "attention.sliding_window": u32(count(config, "local_attention") or LOCAL_ATTENTION),
        "attention.sliding_window_pattern": flags(sliding),
        "hidden_activation": string(text(config, "hidden_activation") or "gelu"),
    }


def offset(config: Json) -> int:
    """Positions that a model of RoBERTa's kind never uses: those up to its padding's."""
    return (count(config, "pad_token_id") if "pad_token_id" in config else 1) + 1


def _rows(source: Source, end: str) -> int:
    return next((stored.rows for name, stored in source.tensors.items() if name.endswith(end)), 0)


def _experts(config: Json, shape: Shape) -> dict[str, bytes]:
    if not shape.experts:
        return {}
    found = {"expert_count": u32(shape.experts), "expert_used_count": u32(shape.experts_used)}
    if own := count(config, "moe_intermediate_size"):
        found["expert_feed_forward_length"] = u32(own)
    if shared := count(config, "shared_expert_intermediate_size"):
        found["expert_shared_feed_forward_length"] = u32(shared)
    return found


def _caps(family: Family, config: Json) -> dict[str, bytes]:
    found = {}
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if (value := number(config, key)) and family.name in ("gemma2", "gemma3"):
            found[key] = f32(value)
    return found


def _windows(family: Family, config: Json, shape: Shape, context: int, notes: list[str]) -> dict[str, bytes]:
    window = shape.sliding_window if any(shape.sliding) else None
    if family.windows and window:
        pattern = flags(shape.sliding)
        return {"attention.sliding_window": u32(window), "attention.sliding_window_pattern": pattern}
    if window and window < context:
        notes.append(
            f"Transformers lets layers see the last {window} tokens only, and llama.cpp lets those of {family.name} "
            "see all: answers in longer texts differ"
        )
    if family.name == "gemma2":
        return {"attention.sliding_window": u32(context)}  # without the key it would be 4096
    # Tells Phi 4 from the others; llama.cpp computes all without a window.
    return {"attention.sliding_window": u32(0)} if family.name == "phi3" else {}


def same_computation(family: Family, config: Json, shape: Shape) -> None:
    """Raises Untold where llama.cpp computes something else for this architecture than the configuration asks."""
    activation = text(config, "hidden_activation") or text(config, "hidden_act")
    if activation and activation not in family.activations:
        raise Uncomputed(f"the activation {activation!r}, where llama.cpp has {min(family.activations)!r}")
    if (positions := text(config, "position_embedding_type")) not in ("", "absolute"):
        raise Uncomputed(f"positions of type {positions!r}")
    if family.name == "modern-bert" and (biased := [key for key in BIASES if config.get(key) is True]):
        raise Untold(f"biases ({', '.join(biased)})")
    if family.name in ("gemma2", "gemma3"):
        _same_scale(family, config, shape)
    if family.name == "gemma3" and number(config, "attn_logit_softcapping"):
        raise Uncomputed("attention scores with a cap")
    if family.name == "smollm3":
        _same_skips(family, config, shape)
    if family.experts:
        _same_experts(family, config)
    if len(set(shape.kv_heads)) != 1 and not family.encoder:
        raise Untold("layers with different numbers of heads")


def _same_scale(family: Family, config: Json, shape: Shape) -> None:
    """What attention scores are divided by is built into llama.cpp, by the number of layers."""
    large = 46 if family.name == "gemma2" else 62
    usual = shape.embedding // shape.heads if shape.layers == large else shape.key_length
    asked = number(config, "query_pre_attn_scalar") or 256
    if not math.isclose(asked, usual):
        raise Uncomputed(f"attention scores divided by the root of {asked:g}, where llama.cpp takes that of {usual}")


def _same_skips(family: Family, config: Json, shape: Shape) -> None:
    turned = config.get("no_rope_layers")
    usual = [int((layer + 1) % family.skipped_rope != 0) for layer in range(shape.layers)]
    if isinstance(turned, list) and turned and [int(bool(one)) for one in turned] != usual:
        raise Uncomputed("another choice of layers that turn positions than all but every fourth")


def _same_experts(family: Family, config: Json) -> None:
    if config.get("mlp_only_layers") or (count(config, "decoder_sparse_step") or 1) != 1:
        raise Untold("layers with experts and layers without")
    normed = config.get("norm_topk_prob")
    if isinstance(normed, bool) and normed is not family.normed_experts:
        raise Uncomputed(f"experts whose norm_topk_prob is {normed}: llama.cpp computes {family.name} otherwise")
    if normed is None and family.name == "qwen3moe":
        raise Untold("how experts are weighed (norm_topk_prob is not said)")
