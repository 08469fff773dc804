"""layers_of(info) -> Layers: how the weights of a model lie over its layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from uml.core.model import ModelInfo, Shape, TensorGroup
from uml.core.options import LoadOptions
from uml.planning.overrides import CPU, moved

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
    pinned: by device, what `override_tensor` puts there wherever its layer is; it is in none of the others.
    """

    dense: tuple[int, ...]
    experts: tuple[int, ...] = ()
    head: int = 0
    inputs: int = 0
    cached: tuple[int, ...] = ()
    pinned: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many layers there are; 0 where that is not known."""
        return len(self.dense)

    @property
    def total(self) -> int:
        """Bytes of all of it."""
        return sum(self.dense) + sum(self.experts) + self.head + self.inputs + sum(self.pinned.values())

    @classmethod
    def even(cls, count: int) -> Layers:
        """So many layers, all alike."""
        return cls((1,) * count)


def layers_of(info: ModelInfo, options: LoadOptions | None = None) -> Layers:
    """From the table of tensors where the header has one, else reckoned from the shape.

    options: of which `override_tensor` says what is not with its layer.
    """
    shape = info.shape
    if shape is None or not shape.layers:
        return Layers(())
    elsewhere = moved(shape.tensors, options) if options else {}
    found = _listed(shape, shape.tensors, elsewhere) if shape.tensors else _reckoned(info, shape)
    cached = tuple(heads if layer < len(shape.kv_heads) else 0 for layer, heads in enumerate(shape.kv_heads))
    if len(cached) == shape.layers and any(cached):
        return replace(found, cached=cached)
    return found


def _listed(shape: Shape, tensors: Sequence[TensorGroup], elsewhere: Mapping[tuple[str, int], str]) -> Layers:
    dense, experts = [0] * shape.layers, [0] * shape.layers
    pinned: dict[str, int] = {}
    head = inputs = 0
    tied = all(group.name != _OUTPUT for group in tensors)
    for group in tensors:
        size, last = group.each_bytes, shape.layers - 1
        if not group.layers:
            if device := elsewhere.get((group.name, -1)):
                # What is looked up by token is no work for the processor.
                if device == CPU and group.name in _INPUTS:
                    inputs += size
                else:
                    pinned[device] = pinned.get(device, 0) + size
                continue
            # An output that shares the table is a copy of it on the GPU.
            if group.name in _INPUTS and not (tied and group.name == _TABLE):
                inputs += size
            else:
                head += size
            continue
        into = experts if _EXPERTS.fullmatch(group.name) else dense
        for layer in group.layers:
            if elsewhere and (device := elsewhere.get((group.name, layer))):
                pinned[device] = pinned.get(device, 0) + size
                continue
            # Layers behind the last are those of multi-token prediction: they go with it.
            into[layer if layer < last else last] += size
    return Layers(tuple(dense), tuple(experts) if any(experts) else (), head, inputs, (), pinned)


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
