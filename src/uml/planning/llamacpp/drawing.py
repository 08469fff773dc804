"""drawing(info, shape) -> Drawing: which of llama.cpp's building blocks a model is made of, from its header."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from uml.core.model import ModelInfo, Shape
from uml.core.options import LoadOptions
from uml.planning.cache import CACHE_BLOCKS, cells, is_encoder, number, sliding_layers, window
from uml.planning.llamacpp.model import Batch, Drawing, Layer

_DRAWN_LAYERS: Final = 12
"""Layers of one kind repeat what the allocator does: after a few of each kind nothing new comes."""
_DRAWN_KINDS: Final = 12
"""Kinds of layers beyond those first ones; models have four at most, a header may have thousands."""
_DRAWN_EXPERTS: Final = 32
"""Chosen experts that are drawn one by one; models choose 22 at most, a header may claim billions."""
_CENTRED: Final = frozenset({"command-r", "cohere2", "gpt2", "gptneox", "falcon", "mpt", "bloom", "starcoder", "phi2"})
"""Decoders whose norm subtracts the mean; of the encoders all but the RMS ones do."""

Sizes = tuple[tuple[str, tuple[int, ...]], ...]


def drawing(info: ModelInfo, shape: Shape) -> Drawing:
    """The graph of a model, from the tensors in its file; without a list of them, from its numbers."""
    return Drawing(
        layers=_layers(shape, _assumed(info, shape), tuple(sliding_layers(info, shape))),
        embedding=shape.embedding,
        vocabulary=shape.vocabulary,
        experts_used=min(max(1, shape.experts_used), _DRAWN_EXPERTS),
        rope=number(info, "rope.dimension_count"),
        inner=number(info, "ssm.inner_size"),
        state=number(info, "ssm.state_size"),
        groups=max(1, number(info, "ssm.group_count")),
        time_heads=number(info, "ssm.time_step_rank"),
        kernel=number(info, "ssm.conv_kernel"),
        centred=info.architecture in _CENTRED or is_encoder(info),
        encoder=is_encoder(info),
    )


def batch(info: ModelInfo, shape: Shape, options: LoadOptions) -> Batch:
    """What is computed at once, with these resolved options.

    The graph is reserved for `ubatch` tokens, as many from each slot, and for one output a slot; a model that
    embeds gives out every token, one that guesses ahead a few.
    """
    slots = max(1, options.parallel)
    tokens = min(options.ubatch, options.batch)
    if not is_encoder(info):
        tokens = min(tokens, options.ctx if options.kv_unified else options.ctx * slots)
    tokens = -(-tokens // slots) * slots
    guesses = options.draft_max if options.draft_model or options.spec_type not in ("auto", "none") else 0
    reach = None if options.swa_full else window(info, shape)
    room = cells(options, reach)
    sliding = any(sliding_layers(info, shape)) and window(info, shape) is not None
    return Batch(
        tokens=tokens,
        slots=slots,
        outputs=tokens if options.embeddings else min(tokens, slots * (1 + guesses)),
        streams=1 if options.kv_unified else slots,
        cells=room.per_slot,
        window_cells=(room.window_per_slot if reach is not None else room.per_slot) if sliding else 0,
        flash=options.flash_attention != "off",
        rotate_k=_rotation(options.cache_type_k, shape.key_length, grows=True),
        rotate_v=_rotation(options.cache_type_v, shape.value_length, grows=False),
    )


def is_drawn(shape: Shape) -> bool:
    """Whether every layer is made of building blocks that are known."""
    names = {group.name for group in shape.tensors}
    known = {"attn_output.weight", "ssm_in.weight"} & names
    return bool(known) and not any(name.startswith(("time_mix", "shortconv", "ssm_beta", "altup")) for name in names)


def _rotation(cache_type: str, head: int, *, grows: bool) -> int:
    """Side of the matrix that turns heads before they are quantized: 64, for keys the largest power that divides."""
    if CACHE_BLOCKS[cache_type][0] == 1 or not head or head % 64:
        return 0
    side = 64
    while grows and head % (2 * side) == 0:
        side *= 2
    return side


@lru_cache(maxsize=64)
def _layers(shape: Shape, assumed: Sizes, slides: tuple[bool, ...]) -> tuple[Layer, ...]:
    """A few layers of every kind in their order, the last one last."""
    sizes: list[list[tuple[str, tuple[int, ...]]]] = [[] for _ in range(shape.layers)]
    for group in shape.tensors:
        for layer in group.layers:
            if layer < shape.layers:
                # Falcon-H1's norm goes without its last part.
                name = group.name if "." in group.name else f"{group.name}.weight"
                sizes[layer].append((name, group.dims))
    kept: list[Layer] = []
    for index, tensors in enumerate(sizes):
        kv_heads = shape.kv_heads[index] if index < len(shape.kv_heads) else 0
        found = Layer(
            tuple(sorted(tensors)) or assumed,
            slides[index] if index < len(slides) else False,
            shape.heads,
            kv_heads or shape.heads,
            shape.key_length,
            shape.value_length,
        )
        if kept[-2:] != [found, found]:
            kept.append(found)
    if len(kept) > _DRAWN_LAYERS:
        start, last = kept[: _DRAWN_LAYERS - 1], kept[-1]
        rare = [layer for layer in dict.fromkeys(kept) if layer not in start]
        kept = [*start, *rare[:_DRAWN_KINDS], last]
    return tuple(kept)


def _assumed(info: ModelInfo, shape: Shape) -> Sizes:
    """The tensors of a layer of a usual model with these numbers, where the file's are not known."""
    if shape.tensors:
        return ()
    wide, width = shape.heads * shape.key_length, shape.embedding
    narrow = max(shape.kv_heads, default=0)
    found: dict[str, tuple[int, ...]] = {"attn_norm.weight": (width,)}
    if inner := number(info, "ssm.inner_size"):
        heads = number(info, "ssm.time_step_rank")
        mixed = 2 * inner + 2 * max(1, number(info, "ssm.group_count")) * number(info, "ssm.state_size") + heads
        found |= {"ssm_in.weight": (width, mixed), "ssm_out.weight": (inner, width), "ssm_norm.weight": (inner,)}
    if narrow or not inner:
        found |= {
            "attn_q.weight": (width, wide),
            "attn_k.weight": (width, narrow * shape.key_length),
            "attn_v.weight": (width, narrow * shape.value_length),
            "attn_output.weight": (shape.heads * shape.value_length, width),
        }
    if shape.experts:
        inside = number(info, "expert_feed_forward_length") or shape.feed_forward
        found |= {"ffn_norm.weight": (width,), "ffn_gate_inp.weight": (width, shape.experts)}
        found |= {f"ffn_{name}_exps.weight": (width, inside, shape.experts) for name in ("gate", "up")}
        found["ffn_down_exps.weight"] = (inside, width, shape.experts)
    elif shape.feed_forward:
        found |= {"ffn_norm.weight": (width,), "ffn_up.weight": (width, shape.feed_forward)}
        found["ffn_down.weight"] = (shape.feed_forward, width)
        if not is_encoder(info):
            found["ffn_gate.weight"] = (width, shape.feed_forward)
    if is_encoder(info):
        for name in ("attn_norm.weight", "ffn_norm.weight"):
            found.pop(name, None)
        found |= {"attn_output_norm.weight": (width,), "layer_output_norm.weight": (width,)}
    return tuple(sorted(found.items()))
