"""layers_of(info) -> Layers: how the weights of a model lie over its layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from uml.core.model import ModelInfo, Shape, TensorGroup

_EXPERTS: Final = re.compile(r"ffn_(up|down|gate|gate_up)_(ch|)exps(\..*)?")
"""Tensors of experts inside a layer: LLM_FFN_EXPS_REGEX in llama.cpp's common/common.h."""
_TABLE: Final = "token_embd.weight"
_INPUTS: Final = frozenset({_TABLE, "per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"})
"""What is looked up by token. llama.cpp leaves it in memory, wherever the layers are (`dev_input`)."""
_OUTPUT: Final = "output.weight"


@dataclass(frozen=True, slots=True)
class Layers:
    """Bytes of weights: each layer's own, each layer's experts, the output, and the tables that never leave memory.

    cached: what each layer has of the cache, in any unit; empty where all have the same.
    """

    dense: tuple[int, ...]
    experts: tuple[int, ...] = ()
    head: int = 0
    inputs: int = 0
    cached: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many layers there are; 0 where that is not known."""
        return len(self.dense)

    @property
    def total(self) -> int:
        """Bytes of all of it."""
        return sum(self.dense) + sum(self.experts) + self.head + self.inputs

    @classmethod
    def even(cls, count: int) -> Layers:
        """So many layers, all alike."""
        return cls((1,) * count)


def layers_of(info: ModelInfo) -> Layers:
    """From the table of tensors where the header has one, else reckoned from the shape."""
    shape = info.shape
    if shape is None or not shape.layers:
        return Layers(())
    found = _listed(shape, shape.tensors) if shape.tensors else _reckoned(info, shape)
    cached = tuple(heads if layer < len(shape.kv_heads) else 0 for layer, heads in enumerate(shape.kv_heads))
    if len(cached) == shape.layers and any(cached):
        return Layers(found.dense, found.experts, found.head, found.inputs, cached)
    return found


def _listed(shape: Shape, tensors: Sequence[TensorGroup]) -> Layers:
    dense, experts = [0] * shape.layers, [0] * shape.layers
    head = inputs = 0
    tied = all(group.name != _OUTPUT for group in tensors)
    for group in tensors:
        if not group.layers:
            # An output that shares the table is a copy of it on the GPU.
            if group.name in _INPUTS and not (tied and group.name == _TABLE):
                inputs += group.each_bytes
            else:
                head += group.each_bytes
            continue
        into = experts if _EXPERTS.fullmatch(group.name) else dense
        size, last = group.each_bytes, shape.layers - 1
        for layer in group.layers:
            # Layers behind the last are those of multi-token prediction: they go with it.
            into[layer if layer < last else last] += size
    return Layers(tuple(dense), tuple(experts) if any(experts) else (), head, inputs)


def _reckoned(info: ModelInfo, shape: Shape) -> Layers:
    """All layers alike; of a mixture, three matrices an expert, at the mean size of a weight."""
    stored = sum(info.weight_bytes.values()) or info.size_bytes
    per_layer = stored // shape.layers
    if not shape.experts:
        return Layers((per_layer,) * shape.layers)
    width = _number(info, "expert_feed_forward_length") or shape.feed_forward
    first = min(shape.layers, _number(info, "leading_dense_block_count"))
    elements = shape.experts * 3 * shape.embedding * width
    mixed = shape.layers - first
    # With every weight counted the experts may not be more than the file holds.
    weights = max(info.parameters or 0, elements * mixed, 1)
    each = stored * elements // weights
    rest = max(0, stored - each * mixed) // shape.layers
    return Layers((rest,) * shape.layers, (0,) * first + (each,) * mixed)


def _number(info: ModelInfo, key: str) -> int:
    value = info.metadata.get(f"{info.architecture}.{key}")
    return value if isinstance(value, int) and value > 0 else 0
