"""plan(model, options, machine, specs, ...) -> LoadPlan: who runs it, how, where, and who leaves first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from uml.core.engine import Availability, EngineSpec
from uml.core.errors import BadOption, DoesNotFit, EngineNotInstalled, UmlError, UnsupportedFormat
from uml.core.machine import Machine
from uml.core.model import Model, ModelInfo
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan
from uml.planning.advice import how_to_use, runs_elsewhere, what_it_needs
from uml.planning.batches import with_batches
from uml.planning.budget import EVERY_GPU, Budget, room, within_budget
from uml.planning.estimate import companion_paths, estimate
from uml.planning.evict import Running, leaving
from uml.planning.fit import Fit, Fitter
from uml.planning.layers import Layers, layers_of
from uml.planning.overrides import check_devices
from uml.planning.place import chosen_gpus
from uml.planning.rank import Honours, Ranked, by_dialect, choice, needs_of, obstacle, rank, usable
from uml.planning.refine import Known, refine
from uml.planning.remedy import MOST_MODELS, Made, Remedy, as_data, changes, smaller_files, smaller_kinds
from uml.planning.resolve import chosen, least_options, settled, unhonoured

Specs = Mapping[str, tuple[EngineSpec, Availability]]


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
    if sentence := how_to_use(model.info):
        raise UnsupportedFormat(model.info.path, sentence, role=model.info.role.value)
    ranked = rank(model.info, machine, specs, (*needs_of(options), *wants), honours)
    name, availability, why = _engine(model, options, machine, specs, ranked)
    spec = specs[name][0]
    ground, on_cpu = _ground(machine, options, spec, availability)
    case = _Case(
        model=model,
        layers=layers_of(model.info, options),
        options=options,
        ground=ground,
        spec=spec,
        on_cpu=on_cpu,
        # Only a build for this very machine, not the wheel for all, has AMX in it.
        amx=availability.way in ("external", "native") and "amx_int8" in machine.instructions,
        running=tuple(running),
        budget=budget,
        companions=companions or {},
        known=known,
        others=others,
    )
    fit, gone = _make_room(case)
    return LoadPlan(
        model=model,
        engine=name,
        options=fit.options,
        asked_options=options,
        footprint=fit.footprint,
        placement=fit.placement,
        reason=f"{why}; {fit.placement.reason}",
        choice=why,
        evict=gone,
        warnings=_warnings(case, fit, machine),
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """What is to be decided; `ground` is the machine as far as the engine can use it."""

    model: Model
    layers: Layers
    options: LoadOptions
    ground: Machine
    spec: EngineSpec
    on_cpu: bool
    amx: bool
    running: tuple[Running, ...]
    budget: Budget | int | None
    companions: Mapping[str, ModelInfo]
    known: Known | None
    others: Sequence[Model]

    def after(self, gone: Sequence[str | Running]) -> Machine:
        """The machine with these models gone, and what is free capped by what the others were promised."""
        left = {one.model if isinstance(one, Running) else one for one in gone}
        freed = [one for one in self.running if one.model in left]
        stay = [one for one in self.running if one.model not in left]
        devices = {device.id: device for device in self.ground.devices}
        back = {key: sum(one.on(key) for one in freed) for key in devices}
        # Mapped pages are free already by the system's count.
        back["cpu"] -= sum(min(one.mapped_bytes, one.on("cpu")) for one in freed)
        grown = {
            key: replace(device, free_bytes=min(device.total_bytes, device.free_bytes + back[key]))
            for key, device in devices.items()
        }
        machine = replace(self.ground, memory=grown["cpu"], gpus=tuple(grown[gpu.id] for gpu in self.ground.gpus))
        return within_budget(machine, self.budget, {key: sum(one.on(key) for one in stay) for key in devices})

    def limit(self, free: int) -> str:
        """The setting for which no more than this is free once nobody is busy; empty where the machine has no more."""
        stay = [one for one in self.running if one.busy or one.pinned]
        taken = {device.id: sum(one.on(device.id) for one in stay) for device in self.ground.devices}
        gone = [one for one in self.running if one not in stay]
        unbound = {device.id: room(device) for device in replace(self, budget=None).after(gone).devices}
        budget = self.budget if isinstance(self.budget, Budget) else Budget(self.budget)
        found = (budget.narrowest(one, taken[one.id]) for one in self.ground.devices if unbound[one.id] > free)
        return next((name for name in found if name), "")

    @property
    def basis(self) -> LoadOptions:
        """The options with all decided that does not depend on memory. Raises BadOption."""
        found = settled(self.model.info, self.options, self.ground, self.companions)
        if "override_tensor" in self.spec.options:
            check_devices(found, [gpu.id for gpu in chosen_gpus(self.ground, self.options)])
        return found

    @property
    def fitter(self) -> Fitter:
        """Puts options of this model into their place."""
        return Fitter(
            self.layers, self.spec, self.on_cpu, self.weigh, partial(with_batches, self.model.info, self.options)
        )

    def choose(self, machine: Machine, *, grow: bool) -> Fit | None:
        """What the options leave open, decided for this machine; see `planning.choose`."""
        return chosen(self.model.info, self.options, self.basis, machine, self.fitter, grow=grow)

    def weigh(self, options: LoadOptions) -> Footprint:
        """The footprint of resolved options."""
        found = estimate(self.model.info, options, self.spec, companions=self.companions, amx=self.amx)
        return refine(found, self.known(self.spec.name, options)) if self.known else found


def _engine(
    model: Model, options: LoadOptions, machine: Machine, specs: Specs, ranked: Sequence[Ranked]
) -> tuple[str, Availability, str]:
    """The engine, the install that runs it, and why it. Raises BadOption, UnsupportedFormat, EngineNotInstalled."""
    info = model.info
    able = [one.engine for one in ranked]
    if options.engine != "auto":
        name, availability = named(options.engine, info, specs)
        spec = specs[name][0]
        why_not = obstacle(info, spec, availability)
        if not why_not and not usable(machine, spec, availability):
            why_not = f"{spec.title} needs a device of {', '.join(sorted(availability.devices or spec.devices))}"
        if why_not and able:
            raise BadOption("engine", options.engine, f"one of {', '.join(able)}: {why_not}")
        if why_not:
            raise UnsupportedFormat(info.path, f"{why_not}; {runs_elsewhere(info)}")
        if not availability.available:
            raise EngineNotInstalled(availability.install or name, model.id, availability.command(spec))
        which = "".join(f" {word}" for word in (availability.install, options.engine_version) if word)
        return name, availability, f"{spec.title}{which} was asked for"
    if not ranked:
        raise UnsupportedFormat(
            info.path,
            what_it_needs(info),
            format=info.format.value,
            quantization=info.quantization.label if info.quantization else None,
        )
    best = ranked[0]
    if not best.available:
        state = specs[best.engine][1].of(info)
        raise EngineNotInstalled(state.install or best.engine, model.id, best.command)
    return best.engine, specs[best.engine][1].of(info), choice(ranked)


def _ground(
    machine: Machine, options: LoadOptions, spec: EngineSpec, availability: Availability
) -> tuple[Machine, bool]:
    """The machine as far as the engine can use it, and whether its processor can. Raises BadOption."""
    if options.device == "cpu" and "cpu" not in (availability.devices or spec.devices):
        raise BadOption("device", options.device, f"auto: {spec.title} runs on {', '.join(sorted(spec.devices))}")
    devices = usable(machine, spec, availability)
    gpus = tuple(device for device in devices if device.kind != "cpu")
    return replace(machine, gpus=gpus), any(device.kind == "cpu" for device in devices)


def named(engine: str, info: ModelInfo, specs: Specs) -> tuple[str, Availability]:
    """What the option `engine` names: an engine, or another install of one, as `uml engine ls` calls it.

    Result: the engine, and the install that runs this model by it. Raises BadOption.
    """
    if engine in specs:
        return engine, specs[engine][1].of(info)
    others = [(name, state) for name, (_, said) in specs.items() for state in said.others.values()]
    found = next(((name, state) for name, state in others if state.install == engine), None)
    if found is None:
        raise BadOption("engine", engine, f"auto or one of {', '.join(sorted(specs))}")
    return found


def _make_room(case: _Case) -> tuple[Fit, tuple[str, ...]]:
    """The model in the best place it can have, and who leaves for it. Raises DoesNotFit."""
    emptied = case.after([one for one in case.running if not one.busy and not one.pinned])
    at_best = case.choose(emptied, grow=False)
    if at_best is None:
        raise _shortage(case, emptied)
    full = case.after(())
    now = case.choose(full, grow=True) if case.running else case.choose(emptied, grow=True)
    if now and now.quality >= at_best.quality and now.options.ctx >= at_best.options.ctx:
        return now, ()
    fitter = case.fitter
    # As at best, but with the place open again.
    open_ = with_batches(
        case.model.info,
        case.options,
        replace(
            case.basis,
            ctx=at_best.options.ctx,
            parallel=at_best.options.parallel,
            cache_type_k=at_best.options.cache_type_k,
            cache_type_v=at_best.options.cache_type_v,
        ),
    )

    def enough(gone: Sequence[Running]) -> bool:
        found = fitter(case.after(gone), open_)
        return found is not None and found.quality >= at_best.quality

    gone = leaving(case.running, enough) or ()
    machine = case.after(gone)
    best = case.choose(machine, grow=True)
    if best and best.quality >= at_best.quality and best.options.ctx >= at_best.options.ctx:
        return best, gone
    return fitter(machine, open_) or at_best, gone


def _shortage(case: _Case, machine: Machine) -> DoesNotFit:
    """Nothing fits on this machine: what is missing, and what would do."""

    def fits(changed: LoadOptions) -> bool:
        try:
            return replace(case, options=changed).choose(machine, grow=False) is not None
        except BadOption:  # what the change leaves of the options makes no sense
            return False

    options = least_options(case.model.info, case.options, case.basis)
    smaller = _smaller(case, machine)
    made = None if smaller else _made(case, machine)
    remedy = Remedy(changes(case.model.info, case.options, fits), smaller, _in_the_way(case), made)
    needed = case.weigh(replace(options, device="cpu", gpu_layers=0) if case.on_cpu else options)
    free = max((room(device) for device in machine.devices if case.on_cpu or device.kind != "cpu"), default=0)
    would_fit, others = as_data(remedy)
    return DoesNotFit(
        *(case.model.id, needed.total_bytes, free, remedy.sentence, would_fit, others, remedy.unpin),
        limit=case.limit(free),
        quantize={"to": made.kind, "needed": made.bytes, "command": made.command} if made else None,
    )


def _in_the_way(case: _Case) -> tuple[str, ...]:
    """Pinned models, as few as it takes, without which the load would fit once others are idle; empty for none."""
    pinned = [replace(one, busy=False, pinned=False) for one in case.running if one.pinned]
    others = [one for one in case.running if not one.pinned]

    def enough(gone: Sequence[Running]) -> bool:
        return case.choose(case.after([*others, *gone]), grow=False) is not None

    return (leaving(pinned, enough) or ()) if pinned else ()


def _smaller(case: _Case, machine: Machine) -> tuple[tuple[str, int], ...]:
    """Smaller files of the same model that fit with the very options, and what they need."""
    found: list[tuple[str, int]] = []
    for other in smaller_files(case.model, case.others):
        if obstacle(other.info, case.spec) or len(found) == MOST_MODELS:
            continue
        if needed := _instead(case, other, machine):
            found.append((other.id, needed))
    return tuple(found)


def _made(case: _Case, machine: Machine) -> Made | None:
    """The largest smaller file that could be made of the model and fits with the very options."""
    kinds = ((kind, _instead(case, other, machine)) for kind, other in smaller_kinds(case.model))
    return next((Made(case.model.id, kind, needed) for kind, needed in kinds if needed), None)


def _instead(case: _Case, other: Model, machine: Machine) -> int:
    """What another model needs with the very options; 0 where it does not fit, or they rule it out."""
    try:
        layers = layers_of(other.info, case.options)
        fit = replace(case, model=other, layers=layers, known=None).choose(machine, grow=False)
    except UmlError:
        return 0
    return fit.footprint.total_bytes if fit else 0


def _warnings(case: _Case, fit: Fit, machine: Machine) -> tuple[str, ...]:
    found = [*unhonoured(case.options, case.spec)]
    asked, info = case.options, case.model.info
    unused = [gpu.name for gpu in machine.gpus if gpu not in case.ground.gpus]
    if unused and asked.device != "cpu":
        found.append(f"{', '.join(unused)} cannot be used by this install of {case.spec.title}")
    if asked.gpu_layers > 0 and not fit.placement.gpu_layers:
        found.append(f"gpu_layers {asked.gpu_layers} was asked for, and there is no GPU to use")
    if asked.ubatch > asked.batch > 0:
        found.append(f"ubatch {asked.ubatch} was asked for, and batch {asked.batch}: no more can be computed at once")
    if asked.main_gpu and not chosen_gpus(case.ground, asked):
        found.append(f"main_gpu {asked.main_gpu} was asked for, and no GPU is used")
    found += _of_what_was_open(asked, fit, info.context_length or 0)
    named = case.budget.gpus if isinstance(case.budget, Budget) else {}
    if absent := sorted(set(named) - {EVERY_GPU} - {gpu.id for gpu in machine.gpus}):
        found.append(f"gpu_budget names {', '.join(absent)}, which is not here")
    if asked.override_tensor and not (info.shape and info.shape.tensors):
        found.append("what override_tensor moves is not counted in the place: the header lists no tensors")
    unknown = [path for path in companion_paths(asked) if path not in case.companions]
    if unknown:
        found.append(f"the memory of {', '.join(unknown)} is not counted in the estimate")
    if info.shape is None:
        found.append("its header does not tell its shape: the estimate is rough")
    return tuple(found)


def _of_what_was_open(asked: LoadOptions, fit: Fit, trained: int) -> list[str]:
    """What was decided smaller than it could be, so that nobody wonders."""
    found, had = [], fit.options
    if not asked.ctx and had.ctx < trained:
        found.append(f"ctx is {had.ctx} of {trained} trained, so that memory is left for others; set ctx for another")
    quantized = {had.cache_type_k, had.cache_type_v} - {"f16", asked.cache_type_k, asked.cache_type_v}
    if quantized:
        found.append(f"the cache is {' and '.join(sorted(quantized))}, for f16 would not fit as well")
    return found
