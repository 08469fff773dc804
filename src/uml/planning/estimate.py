"""estimate(info, options, spec) -> Footprint: how many bytes, from the headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.model import Format, ModelInfo, Role, Shape
from uml.core.options import LoadOptions
from uml.core.plan import Buffer, Footprint
from uml.planning import libraries
from uml.planning.adapter_room import room
from uml.planning.batches import with_batches
from uml.planning.cache import cache
from uml.planning.choose import UNKNOWN_TRAINED_CTX
from uml.planning.llamacpp import rules
from uml.planning.llamacpp.projector import projector_compute
from uml.planning.llamacpp.weights import Weights, place_weights

_MIB: Final = 1 << 20


def estimate(
    info: ModelInfo,
    options: LoadOptions,
    spec: EngineSpec,
    *,
    companions: Mapping[str, ModelInfo] | None = None,
    amx: bool = False,
) -> Footprint:
    """Bytes this model needs once loaded by this engine with these (resolved) options.

    What they leave open counts as the trained context, one slot, and batches that suit those.

    - GGUF: llama.cpp's rules, `planning.cache` and `planning.llamacpp.rules`.
    - GGUF of an unknown shape: the files' size and a half more; between once and twice and a half the size.
    - other formats: by the library that runs them, `planning.libraries`.

    The range is for a model in use: before the first prompt its compute buffer is not resident yet.

    Weights that llama.cpp re-orders for the processor are counted once: the pages of the file that they were
    read from are never read again. Only `high_bytes` has them, for they are resident until memory gets short;
    with `mlock` they stay.

    `mapped_bytes` of the result are pages of the mapped file. The system takes them back before it
    runs out of memory; they count all the same, for without them every token reads the disk.

    companions: what `options.mmproj`, `options.lora` and `options.draft_model` name, by path; the
    sizes of others are not counted. amx: the engine is built for AMX, and copies more of the weights.
    """
    options = _resolved(info, options)
    if info.format is not Format.GGUF:
        found = libraries.weigh(info, options, in_memory=not _gpu_layers(info.shape, options, spec))
    elif info.shape is None:
        found = _by_size(info, options)
    else:
        found = _llamacpp(info, info.shape, options, _gpu_layers(info.shape, options, spec), amx)
    beside = _companions(options, companions or {})
    added = [(option, _companion_buffers(one, options, spec)) for option, one in beside]
    adapters = [one for option, one in beside if option == "lora"]
    if made := room(info, adapters, options, spec.adapter_ranks):
        added.append(("lora", (_own("weights", made),)))
    for option, told in added:
        extra = sum(buffer.bytes for buffer in told)
        found = replace(
            found,
            other_bytes=found.other_bytes + extra,
            other_parts={**found.other_parts, option: found.other_parts.get(option, 0) + extra},
            buffers=(*found.buffers, *told) if found.buffers else (),
            loaded_bytes=found.loaded_bytes and found.loaded_bytes + sum(b.bytes for b in told if b.part != "compute"),
            used_bytes=found.used_bytes and found.used_bytes + extra,
            low_bytes=found.low_bytes + extra,
            high_bytes=found.high_bytes + extra + extra // 8,
        )
    return found


def _resolved(info: ModelInfo, options: LoadOptions) -> LoadOptions:
    """Figures where the options still say 0, so that an estimate of anything is possible."""
    ctx = options.ctx or info.context_length or UNKNOWN_TRAINED_CTX
    return with_batches(info, options, replace(options, ctx=ctx, parallel=options.parallel or 1))


def _gpu_layers(shape: Shape | None, options: LoadOptions, spec: EngineSpec) -> int:
    """Layers on GPUs; with -1, all are meant for one if the engine knows any."""
    if options.device == "cpu" or options.gpu_layers == 0 or spec.devices <= {"cpu"}:
        return 0
    layers = shape.layers if shape else 1
    return layers if options.gpu_layers < 0 else min(options.gpu_layers, layers)


def _llamacpp(info: ModelInfo, shape: Shape, options: LoadOptions, gpu_layers: int, amx: bool) -> Footprint:
    slots = options.parallel
    mapped = options.mmap and not options.direct_io
    placed = place_weights(info, options, gpu_layers, amx)
    # Pages that copies were read from stay until somebody else wants them, or for good when they are locked.
    spare = placed.originals if mapped else 0
    pinned = spare if options.mlock else 0
    kept = cache(info, shape, options)
    computed = rules.compute(info, shape, options)
    process = rules.process(info, shape)
    outputs = rules.outputs(shape, options)
    # Checkpoints come with use, one after another; a model that just loaded has none.
    checkpoints = kept.checkpoint_bytes * options.context_checkpoints * slots
    ram_cache = options.cache_ram_mib * _MIB
    cached = kept.kv_bytes + kept.state_bytes * slots
    stays = placed.host - placed.originals
    weights = stays + placed.copied + placed.doubled + placed.gpu + pinned
    own = placed.copied + placed.doubled + (0 if mapped else stays)
    loaded = own + process.likely + (outputs + cached if not gpu_layers or not options.kv_offload else outputs)
    found = Footprint(
        weight_bytes=weights,
        kv_bytes=cached,
        compute_bytes=computed.likely,
        other_bytes=outputs + process.likely + checkpoints + ram_cache,
        low_bytes=placed.stored + cached + outputs + computed.low + process.low,
        mapped_bytes=stays + pinned if mapped else 0,
        buffers=_buffers(placed, mapped, cached, computed.likely, outputs),
        loaded_bytes=loaded,
        used_bytes=loaded + computed.likely + checkpoints + ram_cache,
        other_parts=_some(output=outputs, process=process.likely, checkpoints=checkpoints, prompt_cache=ram_cache),
    )
    spread = (computed.high - computed.likely) + (process.high - process.likely)
    return replace(found, high_bytes=found.total_bytes + spread + spare - pinned + placed.stored // 50)


def _buffers(placed: Weights, mapped: bool, cached: int, compute: int, outputs: int) -> tuple[Buffer, ...]:
    """What the log is going to say of memory beside GPUs; their figures depend on where the layers go."""
    if placed.gpu:
        return ()
    # What is not mapped is loaded whole, but for what is copied; what is mapped is one span of the file.
    rest = placed.host - placed.originals
    host = Buffer("cpu", "weights", placed.span, "mapped") if mapped else _own("weights", rest)
    found = [host, Buffer("cpu", "weights", placed.copied + placed.doubled, "copy")]
    found += [_own("kv_cache", cached), _own("compute", compute), _own("other", outputs)]
    return tuple(buffer for buffer in found if buffer.bytes)


def _some(**parts: int) -> dict[str, int]:
    return {name: count for name, count in parts.items() if count}


def _own(part: str, count: int) -> Buffer:
    return Buffer("cpu", part, count)


def _by_size(info: ModelInfo, options: LoadOptions) -> Footprint:
    """Half as much as the weights for everything else: the shape is not known."""
    stored, process, ram_cache = rules.stored_bytes(info), rules.process(info, None), options.cache_ram_mib * _MIB
    found = Footprint(
        weight_bytes=stored,
        kv_bytes=stored // 4,
        compute_bytes=stored // 4,
        other_bytes=process.likely + ram_cache,
        other_parts=_some(process=process.likely, prompt_cache=ram_cache),
    )
    return replace(found, low_bytes=stored, high_bytes=found.total_bytes + stored)


def companion_paths(options: LoadOptions) -> tuple[str, ...]:
    """Files that the options name and that take memory beside the model."""
    return tuple(path for _, path in _named(options))


COMPANIONS: Final = ("mmproj", "lora", "draft_model")
"""Options that name files beside the model."""


def _named(options: LoadOptions) -> list[tuple[str, str]]:
    adapters = [("lora", companion_path(entry)) for entry in options.lora]
    named = [("mmproj", options.mmproj), *adapters, ("draft_model", options.draft_model)]
    return [(option, path) for option, path in named if path]


def companion_path(entry: str) -> str:
    """PATH of `PATH` or `PATH=SCALE`."""
    return path_and_scale(entry)[0]


def path_and_scale(entry: str) -> tuple[str, float]:
    """PATH and SCALE of `PATH` or `PATH=SCALE`; 1 where it says none."""
    path, _, scale = entry.rpartition("=")
    try:
        return (path, float(scale)) if path else (entry, 1.0)
    except ValueError:
        return entry, 1.0


def _companions(options: LoadOptions, known: Mapping[str, ModelInfo]) -> list[tuple[str, ModelInfo]]:
    return [(option, known[path]) for option, path in _named(options) if path in known]


def _companion_buffers(info: ModelInfo, options: LoadOptions, spec: EngineSpec) -> tuple[Buffer, ...]:
    """An adapter is its weights; a projector those and what one image is computed in; a draft model a model."""
    weights = _own("weights", rules.stored_bytes(info))
    if info.role is Role.ADAPTER:
        return (weights,)
    if info.role is Role.PROJECTOR:
        computed = projector_compute(info)
        return weights, _own("compute", weights.bytes // 2 if computed is None else computed)
    # Its cache is f16 whatever that of the model is (`common_params_speculative` in llama.cpp).
    alone = replace(
        options,
        mmproj="",
        lora=(),
        draft_model="",
        cache_ram_mib=0,
        gpu_layers=options.draft_gpu_layers,
        cache_type_k="f16",
        cache_type_v="f16",
    )
    found = estimate(info, alone, spec)
    parts = ("weights", found.weight_bytes), ("kv_cache", found.kv_bytes), ("compute", found.compute_bytes)
    return tuple(_own(part, count) for part, count in parts)
