"""resolve_options(info, options, machine, spec) -> LoadOptions: nothing left to guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.machine import Machine
from uml.core.model import READERS, Format, ModelInfo, Role
from uml.core.options import OPTIONS, LoadOptions
from uml.planning.cache import is_encoder
from uml.planning.checks import check
from uml.planning.choose import grown, modest, steps
from uml.planning.estimate import estimate
from uml.planning.fit import Fit, Fitter
from uml.planning.layers import layers_of
from uml.planning.place import chosen_gpus

_POOLED_BY_LAST_TOKEN: Final = 3
"""`LLAMA_POOLING_TYPE_LAST` in `{architecture}.pooling_type`."""
SHORT_BATCH: Final = 64
"""Tokens of a prompt that are read at once where that is as fast. A request is given up, and an answer beside it goes
on, between two batches. Processor time for 512 tokens (0.5B shape, Q8_0, one thread, wheel; `llama-server`): 6.45 and
5.16 s by 512, 6.50 and 5.21 by 128, 6.59 and 5.31 by 64; by 32 the wheel takes 7.75."""
_PLANNERS_OWN: Final = frozenset({"engine", "engine_version", "device"})


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

    - ctx 0, parallel 0, cache types auto: by the rules of `planning.choose`.
    - threads 0: one a physical core; threads_batch 0: the same.
    - batch and ubatch: at most ctx. An embedding model that cannot be fed in pieces gets its whole
      context in one batch; a GGUF model on processors alone SHORT_BATCH where nobody asked for another.
    - A model for embeddings answers for them; a reranker ranks.
    - device, gpu_layers, cpu_moe_layers: the processor, where no GPU can be used; else as they are: the place
      decides.

    What has no room at all is as small as it may be.
    Raises BadOption: what `planning.checks` refuses, a device that is not there.
    """
    fitter = Fitter(
        layers_of(info, options),
        spec,
        "cpu" in spec.devices,
        lambda tried: estimate(info, tried, spec, companions=companions, amx=amx),
        partial(with_batches, info),
    )
    basis = settled(info, options, machine, companions)
    found = chosen(info, options, basis, machine, fitter)
    decided = found.options if found else least_options(info, options, basis)
    return with_batches(
        info,
        replace(
            basis,
            ctx=decided.ctx,
            parallel=decided.parallel,
            cache_type_k=decided.cache_type_k,
            cache_type_v=decided.cache_type_v,
        ),
    )


def settled(
    info: ModelInfo, options: LoadOptions, machine: Machine, companions: Mapping[str, ModelInfo] | None = None
) -> LoadOptions:
    """The options with all decided that does not depend on memory. Raises BadOption."""
    check(info, options, companions or {})
    gpus = chosen_gpus(machine, options)
    return replace(
        options,
        threads=options.threads or machine.cores,
        threads_batch=options.threads_batch or options.threads or machine.cores,
        embeddings=options.embeddings or info.role in READERS,
        pooling="rank" if options.pooling == "auto" and info.role is Role.RERANKER else options.pooling,
        device=options.device if gpus else "cpu",
        gpu_layers=options.gpu_layers if gpus else 0,
        cpu_moe_layers=options.cpu_moe_layers if gpus else max(0, options.cpu_moe_layers),
    )


def chosen(
    info: ModelInfo, asked: LoadOptions, basis: LoadOptions, machine: Machine, fitter: Fitter, *, grow: bool = True
) -> Fit | None:
    """What was left open, decided for this machine; None where not even the least fits.

    grow: take more than is comfortable, where it costs nothing.
    """

    def place(options: LoadOptions) -> Fit | None:
        return fitter(machine, with_batches(info, options))

    start = modest(info, asked, basis, machine, place)
    return grown(info, asked, start, basis, machine, place) if start and grow else start


def least_options(info: ModelInfo, asked: LoadOptions, basis: LoadOptions) -> LoadOptions:
    """Settled options with what was left open as small as it may be."""
    return with_batches(info, steps(info, asked)[-1].into(replace(basis, parallel=asked.parallel or 1)))


def with_batches(info: ModelInfo, options: LoadOptions) -> LoadOptions:
    """The options with batches that suit their context."""
    batch, ubatch, defaults = options.batch, options.ubatch, LoadOptions()
    if _in_one_piece(info, options):
        batch = options.ctx if batch == defaults.batch else batch
        ubatch = options.ctx if ubatch == defaults.ubatch else ubatch
    elif (batch, ubatch) == (defaults.batch, defaults.ubatch) and _in_short_pieces(info, options):
        batch = max(SHORT_BATCH, options.parallel)
    batch = min(batch, options.ctx)
    return replace(options, batch=batch, ubatch=min(ubatch, batch))


def _in_one_piece(info: ModelInfo, options: LoadOptions) -> bool:
    """Whether llama.cpp must compute a text in one batch: an encoder, or one vector out of all tokens."""
    if info.role not in READERS:
        return False
    if is_encoder(info):
        return True
    pooled = info.metadata.get(f"{info.architecture}.pooling_type")
    return options.pooling != "last" and (options.pooling != "auto" or pooled != _POOLED_BY_LAST_TOKEN)


def _in_short_pieces(info: ModelInfo, options: LoadOptions) -> bool:
    """Whether a prompt is read as fast in short batches: by llama.cpp, on processors alone.

    Not a mixture, whose experts get a few tokens each of a batch; nor where something must be in one batch: images,
    texts to embed, guesses.
    """
    if info.format is not Format.GGUF or info.role in READERS or options.device != "cpu":
        return False
    whole = options.mmproj or options.embeddings or options.draft_model or options.spec_type not in ("auto", "none")
    return not whole and not (info.shape and info.shape.experts)


def unhonoured(options: LoadOptions, spec: EngineSpec) -> tuple[str, ...]:
    """A sentence for every option that was set and that this engine does not know."""
    known = spec.options | _PLANNERS_OWN
    changed = [option for option in OPTIONS if not option.ours and getattr(options, option.name) != option.default]
    return tuple(
        f"{spec.title} does not honour the option {option.name}" for option in changed if option.name not in known
    )
