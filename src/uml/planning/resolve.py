"""resolve_options(info, options, machine, spec) -> LoadOptions: nothing left to guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.machine import Machine
from uml.core.model import READERS, ModelInfo, Role
from uml.core.options import OPTIONS, LoadOptions
from uml.planning.batches import with_batches
from uml.planning.checks import check
from uml.planning.choose import Step, grown, modest, steps
from uml.planning.estimate import estimate
from uml.planning.fit import Fit, Fitter
from uml.planning.layers import layers_of
from uml.planning.place import chosen_gpus

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
    - batch 0, ubatch 0: by the rules of `planning.batches`; one that was asked for stays, up to ctx.
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
        partial(with_batches, info, options),
    )
    basis = settled(info, options, machine, companions)
    found = chosen(info, options, basis, machine, fitter)
    decided = found.options if found else least_options(info, options, basis)
    return placeless(info, options, basis, decided)


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
        return fitter(machine, with_batches(info, asked, options))

    start = modest(info, asked, basis, machine, place)
    return grown(info, asked, start, basis, machine, place) if start and grow else start


def placeless(info: ModelInfo, asked: LoadOptions, basis: LoadOptions, decided: LoadOptions) -> LoadOptions:
    """What was left open as it was decided, but for the place, which is as open as in the settled options."""
    step = Step(decided.ctx, decided.cache_type_k, decided.cache_type_v)
    return with_batches(info, asked, step.into(replace(basis, parallel=decided.parallel)))


def least_options(info: ModelInfo, asked: LoadOptions, basis: LoadOptions) -> LoadOptions:
    """Settled options with what was left open as small as it may be."""
    return with_batches(info, asked, steps(info, asked)[-1].into(replace(basis, parallel=asked.parallel or 1)))


def unhonoured(options: LoadOptions, spec: EngineSpec) -> tuple[str, ...]:
    """A sentence for every option that was set and that this engine does not know."""
    known = spec.options | _PLANNERS_OWN
    changed = [option for option in OPTIONS if not option.ours and getattr(options, option.name) != option.default]
    return tuple(
        f"{spec.title} does not honour the option {option.name}" for option in changed if option.name not in known
    )
