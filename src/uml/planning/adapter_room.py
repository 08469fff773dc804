"""Room that an engine makes for LoRA adapters before it reads any: in every layer, whatever an adapter changes there.

That is vLLM's way (`create_lora_weights` of its layers at version 0.32): two matrices of the greatest rank beside each
matrix of the model, its table of tokens and its output among these, once for each adapter that may work at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from uml.core.model import ModelInfo, Shape
from uml.core.options import LoadOptions

_ELEMENT_BYTES: Final = 2
"""A model in F32 is computed with in 16 bits there, and adapters as their model is."""


def rank_of(config: Mapping[str, object]) -> int:
    """The greatest rank of an adapter of PEFT: its `r`, or one of `rank_pattern.` for some layers; 0: it says none.

    config: the scalars of its adapter_config.json.
    """
    found = [value for name, value in config.items() if name == "r" or name.startswith("rank_pattern.")]
    return max((value for value in found if type(value) is int), default=0)


def suiting(rank: int, allowed: Sequence[int]) -> int:
    """The smallest of these ranks that is no smaller; 0 where none is."""
    return min((one for one in allowed if one >= rank), default=0)


def at_once(options: LoadOptions) -> int:
    """How many adapters may work in one step: no more than there are answers."""
    return min(len(options.lora), max(1, options.parallel))


def room(info: ModelInfo, adapters: Iterable[ModelInfo], options: LoadOptions, allowed: Sequence[int]) -> int:
    """Bytes of that room for a model of a known shape; 0 for others, and where the engine makes none (`allowed`)."""
    ranks = [rank_of(one.metadata) for one in adapters]
    if info.shape is None or not ranks or not allowed:
        return 0
    return _ELEMENT_BYTES * at_once(options) * suiting(max(ranks), allowed) * _sides(info.shape)


def _sides(shape: Shape) -> int:
    """Rows and columns of all matrices together: what a rank of 1 takes elements for."""
    inner = shape.embedding + shape.feed_forward
    feed_forward = 3 * inner * max(1, shape.experts)
    queries = 2 * shape.embedding + shape.heads * (shape.key_length + shape.value_length)
    pairs = sum(2 * shape.embedding + heads * (shape.key_length + shape.value_length) for heads in shape.kv_heads)
    return shape.layers * (feed_forward + queries) + pairs + 2 * (shape.embedding + shape.vocabulary)
