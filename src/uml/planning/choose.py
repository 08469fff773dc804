"""modest() and grown(): what a load gets where its options leave context, slots and cache types open.

First the best place that a comfortable conversation allows, then as much more as does not cost the place:

1. A comfortable context (8,192 tokens, or what the model was trained for), one slot, keys and values in f16.
   Where that costs a place on GPUs, or does not fit: q8_0, then 4,096 tokens; where it does not fit at all,
   2,048 tokens, and at the very last q4_0.
2. More slots (4, else 2), then more context, up to the trained one, as long as the place stays as good and
   the cache takes no more than the weights (or 512 MiB, where those are less). Memory is
   shared with whatever else the machine does, so there the model takes at most half of what is free besides;
   a GPU is there for models: up to half of it is taken in any case.

Cells of a cache are written at the load. Without the limits a model of half a gigabyte would fill gigabytes
of them that nobody asked for, and take several times as long to load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from uml.core.machine import Machine
from uml.core.model import ModelInfo
from uml.core.options import LoadOptions
from uml.planning.budget import room
from uml.planning.cache import CACHE_BLOCKS, PADDING, is_latent
from uml.planning.fit import Fit

COMFORTABLE_CTX: Final = 8192
"""Tokens that a conversation with tools and documents wants."""
MODEST_CTX: Final = 4096
SMALLEST_AUTO_CTX: Final = 2048
UNKNOWN_TRAINED_CTX: Final = 4096
"""Taken for the context of a model whose header does not tell it."""
SLOTS: Final = (4, 2)
SMALL_CACHE_BYTES: Final = 512 << 20

Place = Callable[[LoadOptions], Fit | None]
"""`Fitter` on one machine."""


@dataclass(frozen=True, slots=True)
class Step:
    """Values for what is open. share: of the free memory that may be taken by it."""

    ctx: int
    cache_type_k: str
    cache_type_v: str
    share: float = 1.0

    def into(self, options: LoadOptions) -> LoadOptions:
        """The options with these values."""
        return replace(options, ctx=self.ctx, cache_type_k=self.cache_type_k, cache_type_v=self.cache_type_v)


def steps(info: ModelInfo, asked: LoadOptions) -> list[Step]:
    """From comfortable to the least, without repetitions."""
    trained = info.context_length or UNKNOWN_TRAINED_CTX
    sizes = [asked.ctx or min(trained, ctx) for ctx in (COMFORTABLE_CTX, MODEST_CTX, SMALLEST_AUTO_CTX)]
    types = list(_types(info, asked))
    plain, small = types[0], types[min(1, len(types) - 1)]
    # A full memory is for who asked for it, or for a model that would not run otherwise.
    found = [
        *(
            (sizes[0], *one, 1.0 if asked.ctx or sizes[0] == sizes[2] else 0.75)
            for one in dict.fromkeys((plain, small))
        ),
        (sizes[1], *small, 1.0),
        (sizes[2], *small, 1.0),
        (sizes[2], *types[-1], 1.0),
    ]
    return [Step(*one) for one in dict.fromkeys(found)]


def _types(info: ModelInfo, asked: LoadOptions) -> Iterator[tuple[str, str]]:
    """Types of keys and values that may be tried, the best first."""
    shape = info.shape
    for kind in ("f16", "q8_0", "q4_0"):
        block = CACHE_BLOCKS[kind][0]
        if block > 1 and (shape is None or shape.key_length % block or shape.value_length % block):
            return
        keys = kind if asked.cache_type_k == "auto" else asked.cache_type_k
        values = kind if asked.cache_type_v == "auto" else asked.cache_type_v
        if values != "f16" and asked.cache_type_v == "auto" and asked.flash_attention == "off":
            values = "f16"
        if is_latent(info):
            # Both are one: what is said of either holds for the other, and of what is open the coarser.
            keys = values if asked.cache_type_k == "auto" else keys
            values = keys if asked.cache_type_v == "auto" else values
        yield keys, values


def modest(info: ModelInfo, asked: LoadOptions, basis: LoadOptions, machine: Machine, place: Place) -> Fit | None:
    """The first step, for one slot, with the best kind of place that any step allows; None when none fits.

    asked: options as they came; basis: the same with all but context, slots, batches and cache types decided.
    """
    alone = replace(basis, parallel=asked.parallel or 1)
    ladder = steps(info, asked)
    fits = [place(step.into(alone)) for step in ladder]
    for tier in (3, 2):
        for step, fit in zip(ladder, fits, strict=True):
            if fit and fit.tier >= tier and (asked.ctx or step.ctx >= min(MODEST_CTX, ladder[0].ctx)):
                return fit
    for step, fit in zip(ladder, fits, strict=True):
        if fit and fit.placement.device_bytes.get("cpu", 0) <= room(machine.memory) * step.share:
            return fit
    return None


def grown(info: ModelInfo, asked: LoadOptions, start: Fit, basis: LoadOptions, machine: Machine, place: Place) -> Fit:
    """More slots and context than `modest` found, where they were left open and cost nothing of its place."""
    best = start

    def better(ctx: int, parallel: int) -> Fit | None:
        kinds = {"cache_type_k": start.options.cache_type_k, "cache_type_v": start.options.cache_type_v}
        fit = place(replace(basis, ctx=ctx, parallel=parallel, **kinds))  # type: ignore[arg-type]
        return fit if fit and fit.quality >= start.quality and _easy(fit, machine) else None

    ctx = start.options.ctx
    if not asked.parallel:
        best = next((fit for slots in SLOTS if (fit := better(ctx, slots))), best)
    if not asked.ctx:
        slots = best.options.parallel
        best = _longest(ctx, info.context_length or UNKNOWN_TRAINED_CTX, lambda ctx: better(ctx, slots)) or best
    return best


def _longest(low: int, high: int, better: Callable[[int], Fit | None]) -> Fit | None:
    """The fit of the largest context from `low` to `high` that has one, in steps of 256."""
    if high <= low:
        return None
    if found := better(high):
        return found
    # In blocks of llama.cpp's padding; `low` itself is known to do.
    least, most = low // PADDING, (high - 1) // PADDING
    while least < most:
        middle = (least + most + 1) // 2
        if fit := better(middle * PADDING):
            found, least = fit, middle
        else:
            most = middle - 1
    return found


def _easy(fit: Fit, machine: Machine) -> bool:
    """Whether it takes no more than is decent for something that nobody asked for."""
    taken = fit.placement.device_bytes
    gpus = [gpu for gpu in machine.gpus if gpu.id in taken and gpu.kind != "metal"]
    small = fit.footprint.kv_bytes <= max(fit.footprint.weight_bytes, SMALL_CACHE_BYTES)
    if fit.tier == 3 and gpus:
        return small or sum(taken[gpu.id] for gpu in gpus) * 2 <= sum(room(gpu) for gpu in gpus)
    in_memory = sum(count for id, count in taken.items() if id not in {gpu.id for gpu in gpus})
    return small and in_memory * 2 <= room(machine.memory)
