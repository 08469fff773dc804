"""Bytes that grow with the context: keys and values, and the states of recurrent layers.

The rules are llama.cpp's (`llama_kv_cache`, `llama_memory_recurrent`), checked against the
`KV buffer size` and `RS buffer size` lines of its log. One layer is one of:

- full attention: every cell of the context;
- sliding window: only as many cells as the window and one batch take;
- latent attention (MLA): one compressed row for all heads, no values;
- recurrent: a state of fixed size for each slot;
- sharing: it reads another layer's cache and has none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from uml.core.model import ModelInfo, Shape
from uml.core.options import LoadOptions

CACHE_BLOCKS: Final = {
    "auto": (1, 2),
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q5_1": (32, 24),
    "q5_0": (32, 22),
    "q4_1": (32, 20),
    "q4_0": (32, 18),
    "iq4_nl": (32, 18),
}
"""Elements and bytes of one block of each cache type; `auto` is f16."""

PADDING: Final = 256
"""llama.cpp rounds the cells of a context up to a multiple of this."""

# Every how many layers one sees the whole context (`set_swa_pattern` in llama.cpp's src/models), where the
# file does not say. Others with a window in their header (llama, phi3, qwen2) get full caches all the same.
_WINDOW_PERIODS: Final = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "llama4": 4,
    "olmo2": 4,
    "plamo3": 8,
    "smallthinker": 4,
}
_FULL_FIRST: Final = frozenset({"smallthinker"})
"""Of those, the ones whose first layer of a period is the full one; in the rest it is the last."""

_RECURRENT: Final = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_ENCODERS: Final = frozenset(
    {"bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "modern-bert", "eurobert", "jina-bert-v2", "jina-bert-v3"}
    | {"gemma-embedding", "t5encoder"}
)
_GEMMA3N_CACHED_LAYERS: Final = 20


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of one layer's cache, over all slots: `full`, and `window` for a sliding one.

    per_slot, window_per_slot: what the mask of one batch spans.
    """

    full: int
    window: int
    per_slot: int
    window_per_slot: int


@dataclass(frozen=True, slots=True)
class Cache:
    """kv_bytes: all slots; state_bytes, checkpoint_bytes: of one slot.

    full_layers, window_layers, state_layers: how many layers there are of each kind.
    """

    kv_bytes: int
    state_bytes: int
    checkpoint_bytes: int
    full_layers: int
    window_layers: int
    state_layers: int


def padded(cells: int) -> int:
    """Rounded up to what llama.cpp allocates."""
    return -(-cells // PADDING) * PADDING


def is_encoder(info: ModelInfo) -> bool:
    """Whether it reads a text at once, in one batch, and keeps no cache."""
    causal = info.metadata.get(f"{info.architecture}.attention.causal", True)
    return info.architecture in _ENCODERS or causal is False


def cells(options: LoadOptions, window: int | None) -> Cells:
    """Cells for `ctx` tokens a slot; one pool of `ctx` for all with `kv_unified`."""
    slots = max(1, options.parallel)
    full = padded(options.ctx)
    reach = full if window is None else window
    if options.kv_unified:
        sliding = min(full, padded(reach * slots + options.ubatch))
        return Cells(full, sliding, full, sliding)
    sliding = min(full, padded(reach + options.ubatch))
    return Cells(full * slots, sliding * slots, full, sliding)


def cache(info: ModelInfo, shape: Shape, options: LoadOptions) -> Cache:
    """What the layers of a model keep of a conversation, as llama.cpp lays it out."""
    if is_encoder(info):
        return Cache(0, 0, 0, 0, 0, 0)
    reach = None if options.swa_full else window(info, shape)
    room = cells(options, reach)
    kv_bytes = sliding_row_bytes = full_layers = window_layers = 0
    heads_of_layers = _cached_heads(info, shape)
    slides = sliding_layers(info, shape)[: len(heads_of_layers)]
    if reach is None:
        slides = [False] * len(heads_of_layers)
    # Layers of one kind together: this is asked dozens of times for one plan.
    for (heads, sliding), count in Counter(zip(heads_of_layers, slides, strict=True)).items():
        if not heads:
            continue
        rows = _row_bytes(info, shape, heads, options) * count
        if sliding:
            kv_bytes += rows * room.window
            sliding_row_bytes += rows
            window_layers += count
        else:
            kv_bytes += rows * room.full
            full_layers += count
    state_layers = sum(_recurrent_layers(info, shape))
    state_bytes = state_layers * _state_elements(info, shape) * 4
    checkpoint_bytes = state_bytes + sliding_row_bytes * min(reach or 0, room.per_slot)
    return Cache(kv_bytes, state_bytes, checkpoint_bytes, full_layers, window_layers, state_layers)


def window(info: ModelInfo, shape: Shape) -> int | None:
    """Tokens a sliding layer sees; None where llama.cpp keeps the whole context in every layer."""
    return shape.sliding_window if shape.sliding_window and (any(shape.sliding) or _period(info) > 1) else None


def _period(info: ModelInfo) -> int:
    if info.architecture not in _WINDOW_PERIODS:
        return 0
    return number(info, "attention.sliding_window_pattern") or _WINDOW_PERIODS[info.architecture]


def sliding_layers(info: ModelInfo, shape: Shape) -> list[bool]:
    """Which layers see a window only: as the file says layer by layer, else by the architecture's period."""
    period, layers = _period(info), shape.layers
    if window(info, shape) is None:
        return [False] * layers
    if len(shape.sliding) == layers:
        return list(shape.sliding)
    if info.architecture in _FULL_FIRST:
        return [layer % period != 0 for layer in range(layers)]
    return [layer % period < period - 1 for layer in range(layers)]


def _cached_heads(info: ModelInfo, shape: Shape) -> list[int]:
    """Key-value heads of every layer that has a cache of its own; 0 for the others."""
    if info.architecture in _RECURRENT:
        return []
    shared = number(info, "attention.shared_kv_layers")
    cached = shape.layers - shared
    if not shared and info.architecture == "gemma3n":
        cached = min(cached, _GEMMA3N_CACHED_LAYERS)
    interval = number(info, "full_attention_interval")
    return [
        heads if layer < cached and (not interval or (layer + 1) % interval == 0) else 0
        for layer, heads in enumerate(shape.kv_heads)
    ]


def is_latent(info: ModelInfo) -> bool:
    """Whether keys and values are one compressed row (MLA), which has one type (`llama_init_from_model`)."""
    return info.architecture == "deepseek4" or number(info, "attention.key_length_mla") > 0


def _row_bytes(info: ModelInfo, shape: Shape, heads: int, options: LoadOptions) -> int:
    """Bytes of one cell in one layer."""
    latent = number(info, "attention.kv_lora_rank")
    if latent and number(info, "attention.key_length_mla"):
        return _type_bytes(latent + number(info, "rope.dimension_count"), options.cache_type_k)
    return _type_bytes(heads * shape.key_length, options.cache_type_k) + _type_bytes(
        heads * shape.value_length, options.cache_type_v
    )


def _type_bytes(elements: int, cache_type: str) -> int:
    block, size = CACHE_BLOCKS[cache_type]
    return -(-elements // block) * size


def _recurrent_layers(info: ModelInfo, shape: Shape) -> list[bool]:
    """Which layers keep a state: all, those without attention, or beside it (falcon-h1)."""
    if not _state_elements(info, shape):
        return []
    if info.architecture in _RECURRENT or info.architecture == "falcon-h1":
        return [True] * shape.layers
    interval = number(info, "full_attention_interval")
    if interval:
        return [(layer + 1) % interval != 0 for layer in range(shape.layers)]
    return [not heads for heads in shape.kv_heads]


def _state_elements(info: ModelInfo, shape: Shape) -> int:
    """Elements of one layer's state: the tail of its convolution and what it remembers. F32 whatever is asked."""
    if short := number(info, "shortconv.l_cache"):
        return (short - 1) * shape.embedding
    if head := number(info, "wkv.head_size"):
        return 2 * shape.embedding + head * shape.embedding
    inner, state = number(info, "ssm.inner_size"), number(info, "ssm.state_size")
    kernel, groups = number(info, "ssm.conv_kernel"), number(info, "ssm.group_count")
    return max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner


def number(info: ModelInfo, key: str) -> int:
    """A whole number of the architecture's own metadata; 0 where there is none."""
    value = info.metadata.get(f"{info.architecture}.{key}")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
