"""resolve_options(info, options, machine, spec) -> LoadOptions: nothing left to guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.errors import BadOption
from uml.core.machine import Device, Machine
from uml.core.model import ModelInfo, Role
from uml.core.options import OPTIONS, LoadOptions
from uml.planning.cache import CACHE_BLOCKS, PADDING, is_encoder
from uml.planning.estimate import estimate
from uml.planning.place import chosen_gpus, room

COMFORTABLE_CTX: Final = 8192
"""Tokens that a conversation with tools and documents wants."""
SMALLEST_AUTO_CTX: Final = 2048
_UNKNOWN_TRAINED_CTX: Final = 4096
_POOLED_BY_LAST_TOKEN: Final = 3
"""`LLAMA_POOLING_TYPE_LAST` in `{architecture}.pooling_type`."""
_PLANNERS_OWN: Final = frozenset({"engine", "device"})


def resolve_options(
    info: ModelInfo,
    options: LoadOptions,
    machine: Machine,
    spec: EngineSpec,
    *,
    companions: Mapping[str, ModelInfo] | None = None,
    amx: bool = False,
) -> LoadOptions:
    """Options with every 0 and auto of ours decided; resolving them again changes nothing.

    - parallel 0: 4, 2 or 1, the most that fits in half of the free memory with the ctx asked for, or with
      a comfortable one (8,192 or what the model was trained for).
    - ctx 0: the largest multiple of 256 up to the trained context that fits in that half; where that is
      less than comfortable, up to comfortable in three quarters; at least 2,048 or the trained context.
    - threads 0: one a physical core; threads_batch 0: the same.
    - batch and ubatch: at most ctx. An embedding model that cannot be fed in pieces gets its whole
      context in one batch.
    - cache types: f16. A model for embeddings answers for them; a reranker ranks.
    - device and gpu_layers: the processor, where no GPU can be used; else as they are: the place decides.

    Free is the GPUs' memory where the engine can use them and they hold the model, else the machine's besides.
    Raises BadOption: ctx over what the model was trained for without rope scaling, a cache type that
    the engine would refuse, a device that is not there.
    """
    _check(info, options)
    gpus = chosen_gpus(machine, options)
    options = replace(
        options,
        threads=options.threads or machine.cores,
        threads_batch=options.threads_batch or options.threads or machine.cores,
        cache_type_k="f16" if options.cache_type_k == "auto" else options.cache_type_k,
        cache_type_v="f16" if options.cache_type_v == "auto" else options.cache_type_v,
        embeddings=options.embeddings or info.role in (Role.EMBEDDING, Role.RERANKER),
        pooling="rank" if options.pooling == "auto" and info.role is Role.RERANKER else options.pooling,
        device=options.device if gpus else "cpu",
        gpu_layers=options.gpu_layers if gpus else 0,
    )

    def needed(ctx: int, parallel: int) -> int:
        tried = _with_batches(info, replace(options, ctx=ctx, parallel=parallel))
        return estimate(info, tried, spec, companions=companions, amx=amx).total_bytes

    trained = info.context_length or max(_UNKNOWN_TRAINED_CTX, options.ctx)
    parallel = options.parallel
    least = needed(options.ctx or min(trained, SMALLEST_AUTO_CTX), parallel or 1)
    free = _free(machine, gpus, spec, least)
    if not parallel:
        ctx = options.ctx or min(trained, COMFORTABLE_CTX)
        parallel = next((slots for slots in (4, 2) if needed(ctx, slots) <= free // 2), 1)
    ctx = options.ctx or _largest(trained, free, lambda ctx: needed(ctx, parallel))
    return _with_batches(info, replace(options, ctx=ctx, parallel=parallel))


def _free(machine: Machine, gpus: Sequence[Device], spec: EngineSpec, least: int) -> int:
    """Bytes that a model may count on, of which it takes `least` whatever is decided."""
    rooms = [room(gpu) for gpu in gpus] or [0]
    on_gpus = max(rooms) if spec.split == "whole" else sum(rooms)
    if least <= on_gpus or "cpu" not in spec.devices:
        return on_gpus
    memory = room(machine.memory)
    shared = any(gpu.kind == "metal" for gpu in gpus)
    return memory if spec.split == "whole" or shared else on_gpus + memory


def least_options(info: ModelInfo, asked: LoadOptions, options: LoadOptions) -> LoadOptions:
    """Resolved options with what was left open as small as it may be."""
    trained = info.context_length or _UNKNOWN_TRAINED_CTX
    ctx = asked.ctx or min(trained, SMALLEST_AUTO_CTX)
    return _with_batches(info, replace(options, ctx=ctx, parallel=asked.parallel or 1))


def _largest(trained: int, free: int, needed: Callable[[int], int]) -> int:
    """The context that the rules in `resolve_options` lead to."""
    least = min(trained, SMALLEST_AUTO_CTX)
    ctx = largest_ctx(trained, free // 2, needed)
    if ctx < COMFORTABLE_CTX:
        ctx = max(ctx, largest_ctx(min(trained, COMFORTABLE_CTX), free // 4 * 3, needed))
    return max(ctx, least)


def largest_ctx(limit: int, free: int, needed: Callable[[int], int]) -> int:
    """The largest multiple of 256 up to `limit` of which `needed` is at most `free`; 0 when not even 256 is."""
    low, high = 0, limit // PADDING
    while low < high:
        middle = (low + high + 1) // 2
        if needed(middle * PADDING) <= free:
            low = middle
        else:
            high = middle - 1
    return low * PADDING


def _with_batches(info: ModelInfo, options: LoadOptions) -> LoadOptions:
    batch, ubatch = options.batch, options.ubatch
    if _in_one_piece(info, options):
        defaults = LoadOptions()
        batch = options.ctx if batch == defaults.batch else batch
        ubatch = options.ctx if ubatch == defaults.ubatch else ubatch
    batch = min(batch, options.ctx)
    return replace(options, batch=batch, ubatch=min(ubatch, batch))


def _in_one_piece(info: ModelInfo, options: LoadOptions) -> bool:
    """Whether llama.cpp must compute a text in one batch: an encoder, or one vector out of all tokens."""
    if info.role not in (Role.EMBEDDING, Role.RERANKER):
        return False
    if is_encoder(info):
        return True
    pooled = info.metadata.get(f"{info.architecture}.pooling_type")
    return options.pooling != "last" and (options.pooling != "auto" or pooled != _POOLED_BY_LAST_TOKEN)


def _check(info: ModelInfo, options: LoadOptions) -> None:
    trained = info.context_length
    if trained and options.ctx > trained and not _stretched(options):
        raise BadOption(
            "ctx",
            options.ctx,
            f"a whole number from 0 to {trained}, the context {info.name or info.path.name} was trained for, "
            "or rope_scaling (linear, yarn) or rope_freq_base besides",
        )
    keys, values = CACHE_BLOCKS[options.cache_type_k][0], CACHE_BLOCKS[options.cache_type_v][0]
    if values > 1 and options.flash_attention == "off":
        raise BadOption("cache_type_v", options.cache_type_v, "f16, bf16 or f32 with flash_attention off")
    if info.shape and info.shape.key_length % keys:
        raise BadOption("cache_type_k", options.cache_type_k, _plain_types("keys", info.shape.key_length, keys))
    if info.shape and info.shape.value_length % values:
        raise BadOption("cache_type_v", options.cache_type_v, _plain_types("values", info.shape.value_length, values))


def _plain_types(what: str, length: int, block: int) -> str:
    return f"f16, bf16 or f32: the {what} of this model have {length} elements, not a multiple of {block}"


def _stretched(options: LoadOptions) -> bool:
    return (
        options.rope_scaling in ("linear", "yarn", "longrope")
        or options.rope_freq_base > 0
        or options.rope_freq_scale > 0
        or options.yarn_orig_ctx > 0
        or any("context_length" in entry or "rope" in entry for entry in options.override_kv)
    )


def unhonoured(options: LoadOptions, spec: EngineSpec) -> tuple[str, ...]:
    """A sentence for every option that was set and that this engine does not know."""
    known = spec.options | _PLANNERS_OWN
    changed = [option for option in OPTIONS if not option.ours and getattr(options, option.name) != option.default]
    return tuple(
        f"{spec.title} does not honour the option {option.name}" for option in changed if option.name not in known
    )
