"""What a graph is drawn from: a model's layers by their tensors, its numbers, and what is computed at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Sizes = Mapping[str, tuple[int, ...]]
"""Name of a layer's tensor (`attn_q.weight`) -> its sizes, fastest first."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. tensors: (name, sizes) of each; sliding: its attention sees a window only.

    key, value: elements of a head; heads, kv_heads: how many there are.
    """

    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    sliding: bool
    heads: int
    kv_heads: int
    key: int
    value: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A model's graph in numbers: what `peak_bytes` depends on.

    experts_used, weights_normed: of a mixture; inner, state, groups, time_heads, kernel: of recurrent layers.
    rope: elements of a key's position part in latent attention. centred: norms subtract the mean (not RMS).
    """

    layers: tuple[Layer, ...]
    embedding: int
    vocabulary: int
    experts_used: int = 0
    weights_normed: bool = True
    rope: int = 0
    inner: int = 0
    state: int = 0
    groups: int = 1
    time_heads: int = 0
    kernel: int = 0
    centred: bool = False
    encoder: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What is computed at once.

    tokens, slots, outputs: of the batch; streams: caches it is spread over (1 when they are one).
    cells, window_cells: of one stream. rotate_k, rotate_v: a quantized cache is rotated first.
    """

    tokens: int
    slots: int
    outputs: int
    streams: int
    cells: int
    window_cells: int
    flash: bool = True
    rotate_k: int = 0
    rotate_v: int = 0
