"""plan(model, options, machine, specs, ...) -> LoadPlan: who runs it, how, where, and who leaves first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from uml.core.machine import Machine
from uml.core.model import Model, ModelInfo
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.budget import EVERY_GPU, Budget
from uml.planning.case import Case
from uml.planning.estimate import companion_paths
from uml.planning.evict import Running, leaving
from uml.planning.fit import Fit
from uml.planning.layers import layers_of
from uml.planning.place import chosen_gpus
from uml.planning.precaution import sentence
from uml.planning.rank import Honours, Specs, by_dialect
from uml.planning.refine import Known
from uml.planning.resolve import placeless, unhonoured
from uml.planning.runner import runner
from uml.planning.shortage import shortage


def plan(
    model: Model,
    options: LoadOptions,
    machine: Machine,
    specs: Specs,
    running: Sequence[Running] = (),
    budget: Budget | int | None = None,
    *,
    companions: Mapping[str, ModelInfo] | None = None,
    known: Known | None = None,
    others: Sequence[Model] = (),
    wants: Sequence[str] = (),
    honours: Honours = by_dialect,
) -> LoadPlan:
    """All arrows of planning, decided.

    Free memory is min(reported, total - handed out, budget - handed out). When the model does not fit
    into it as well as it could, idle models leave, as few as give it the best place it can have; nobody
    leaves for a finer cache or a longer context than is comfortable.

    machine: as measured, with the running models loaded. budget: the most that all models together may
    take; a number is bytes of memory. companions: see `estimate`. known: figures that beat the header's.
    others: models on disk, among which a smaller file of the same model may be found and advised.
    wants: what the engine should be able to do beside what the options ask for; honours: see `rank`.

    Raises BadOption; UnsupportedFormat: nothing runs it, or not on its own; EngineNotInstalled with the
    command; DoesNotFit with what would fit, even when all idle models were gone.
    """
    who = runner(model, options, machine, specs, wants, honours)
    layers = layers_of(model.info, options)
    case = Case(model, layers, options, who, tuple(running), budget, companions or {}, known, others)
    fit, gone = _make_room(case)
    return LoadPlan(
        model=model,
        engine=who.engine,
        options=fit.options,
        asked_options=options,
        footprint=fit.footprint,
        placement=fit.placement,
        reason=f"{who.why}; {fit.placement.reason}",
        choice=who.why,
        evict=gone,
        warnings=_warnings(case, fit, machine),
    )


def _make_room(case: Case) -> tuple[Fit, tuple[str, ...]]:
    """The model in the best place it can have, and who leaves for it. Raises DoesNotFit."""
    emptied = case.after([one for one in case.running if not one.busy and not one.pinned])
    at_best = case.choose(emptied, grow=False)
    if at_best is None:
        raise shortage(case, emptied)
    full = case.after(())
    now = case.choose(full, grow=True) if case.running else case.choose(emptied, grow=True)
    if now and now.quality >= at_best.quality and now.options.ctx >= at_best.options.ctx:
        return now, ()
    fitter = case.fitter
    wanted = placeless(case.model.info, case.options, case.basis, at_best.options)

    def enough(gone: Sequence[Running]) -> bool:
        found = fitter(case.after(gone), wanted)
        return found is not None and found.quality >= at_best.quality

    gone = leaving(case.running, enough) or ()
    machine = case.after(gone)
    best = case.choose(machine, grow=True)
    if best and best.quality >= at_best.quality and best.options.ctx >= at_best.options.ctx:
        return best, gone
    return fitter(machine, wanted) or at_best, gone


def _warnings(case: Case, fit: Fit, machine: Machine) -> tuple[str, ...]:
    """What a user should know of the plan: what is not honoured, not used, not counted. machine: with all GPUs."""
    found = [*unhonoured(case.options, case.runner.spec)]
    found += map(sentence, case.precautions)
    asked, info = case.options, case.model.info
    unused = [gpu.name for gpu in machine.gpus if gpu not in case.runner.machine.gpus]
    if unused and asked.device != "cpu":
        found.append(f"{', '.join(unused)} cannot be used by this install of {case.runner.spec.title}")
    if asked.gpu_layers > 0 and not fit.placement.gpu_layers:
        found.append(f"gpu_layers {asked.gpu_layers} was asked for, and there is no GPU to use")
    if asked.main_gpu and not chosen_gpus(case.runner.machine, asked):
        found.append(f"main_gpu {asked.main_gpu} was asked for, and no GPU is used")
    if "batch" in case.runner.spec.options:
        found += _of_batches(asked, fit.options)
    found += _of_what_was_open(asked, fit, info.context_length or 0)
    limited = case.budget.gpus if isinstance(case.budget, Budget) else {}
    if absent := sorted(set(limited) - {EVERY_GPU} - {gpu.id for gpu in machine.gpus}):
        found.append(f"gpu_budget names {', '.join(absent)}, which is not here")
    if asked.override_tensor and not (info.shape and info.shape.tensors):
        found.append("what override_tensor moves is not counted in the place: the header lists no tensors")
    unknown = [path for path in companion_paths(asked) if path not in case.companions]
    if unknown:
        found.append(f"the memory of {', '.join(unknown)} is not counted in the estimate")
    if info.shape is None:
        found.append("its header does not tell its shape: the estimate is rough")
    return tuple(found)


def _of_batches(asked: LoadOptions, had: LoadOptions) -> list[str]:
    """What of a prompt is read at once in smaller parts than was asked for."""
    found, cut = [], asked.batch > had.batch
    if cut and had.batch < had.ctx:
        told = "no more is read at once than is computed at once where texts are embedded"
        found.append(f"batch {asked.batch} was asked for, and ubatch {asked.ubatch}: {told}")
    elif cut:
        found.append(f"batch {asked.batch} was asked for, and ctx is {had.ctx}: no more can be read at once")
    if asked.ubatch > had.ubatch:
        limit = f"batch {had.batch}" if asked.batch and not cut else f"ctx is {had.ctx}"
        found.append(f"ubatch {asked.ubatch} was asked for, and {limit}: no more can be computed at once")
    return found


def _of_what_was_open(asked: LoadOptions, fit: Fit, trained: int) -> list[str]:
    """What was decided smaller than it could be, so that nobody wonders."""
    found, had = [], fit.options
    if not asked.ctx and had.ctx < trained:
        found.append(f"ctx is {had.ctx} of {trained} trained, so that memory is left for others; set ctx for another")
    quantized = {had.cache_type_k, had.cache_type_v} - {"f16", asked.cache_type_k, asked.cache_type_v}
    if quantized:
        found.append(f"the cache is {' and '.join(sorted(quantized))}, for f16 would not fit as well")
    return found
