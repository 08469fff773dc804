"""plan(model, options, machine, specs, ...) -> LoadPlan: who runs it, how, where, and who leaves first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from uml.core.engine import Availability, EngineSpec
from uml.core.errors import BadOption, DoesNotFit, EngineNotInstalled, UnsupportedFormat
from uml.core.machine import Machine
from uml.core.model import Model, ModelInfo
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.planning.advice import how_to_use, runs_elsewhere, what_it_needs, would_fit
from uml.planning.estimate import companion_paths, estimate
from uml.planning.evict import Running, leaving
from uml.planning.place import place, room, within_budget
from uml.planning.rank import obstacle, rank, usable
from uml.planning.refine import Known, refine
from uml.planning.resolve import least_options, resolve_options, unhonoured

Specs = Mapping[str, tuple[EngineSpec, Availability]]


def plan(
    model: Model,
    options: LoadOptions,
    machine: Machine,
    specs: Specs,
    running: Sequence[Running] = (),
    budget_bytes: int | None = None,
    *,
    companions: Mapping[str, ModelInfo] | None = None,
    known: Known | None = None,
) -> LoadPlan:
    """All arrows of planning, decided.

    Free memory is min(reported, total - handed out, budget - handed out). When the model does not fit
    into it, the least recently used idle models leave, as few as give it the best place it can have;
    what the options leave open is then decided for the memory that they free.

    machine: as measured, with the running models loaded. budget_bytes: the most that all models
    together may take of memory. companions: see `estimate`. known: figures that beat the header's.

    Raises BadOption; UnsupportedFormat: nothing runs it, or not on its own; EngineNotInstalled with the
    command; DoesNotFit with what would fit, even when all idle models were gone.
    """
    if sentence := how_to_use(model.info):
        raise UnsupportedFormat(model.info.path, sentence, role=model.info.role.value)
    name, why = _engine(model, options, machine, specs)
    spec, availability = specs[name]
    if options.device == "cpu" and "cpu" not in (availability.devices or spec.devices):
        raise BadOption("device", options.device, f"auto: {spec.title} runs on {', '.join(sorted(spec.devices))}")
    devices = usable(machine, spec, availability)
    ground = replace(machine, gpus=tuple(device for device in devices if device.kind != "cpu"))
    case = _Case(
        model=model,
        options=options,
        ground=ground,
        spec=spec,
        on_cpu=any(device.kind == "cpu" for device in devices),
        # Only a build for this very machine, not the wheel for all, has AMX in it.
        amx=availability.way == "external" and "amx_int8" in machine.instructions,
        running=tuple(running),
        budget_bytes=budget_bytes,
        companions=companions or {},
        known=known,
    )
    fit, gone = _make_room(case)
    return LoadPlan(
        model=model,
        engine=name,
        options=fit.options,
        footprint=fit.footprint,
        placement=fit.placement,
        reason=f"{why}; {fit.placement.reason}",
        evict=gone,
        warnings=_warnings(case, fit, machine),
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    """Options with their footprint in its place."""

    options: LoadOptions
    footprint: Footprint
    placement: Placement


@dataclass(frozen=True, slots=True)
class _Case:
    """What is to be decided; `ground` is the machine as far as the engine can use it."""

    model: Model
    options: LoadOptions
    ground: Machine
    spec: EngineSpec
    on_cpu: bool
    amx: bool
    running: tuple[Running, ...]
    budget_bytes: int | None
    companions: Mapping[str, ModelInfo]
    known: Known | None

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
        return within_budget(machine, self.budget_bytes, {key: sum(one.on(key) for one in stay) for key in devices})

    def resolve(self, machine: Machine) -> LoadOptions:
        """The options for this much free memory."""
        return resolve_options(
            self.model.info, self.options, machine, self.spec, companions=self.companions, amx=self.amx
        )

    def weigh(self, options: LoadOptions) -> Footprint:
        """The footprint of resolved options."""
        found = estimate(self.model.info, options, self.spec, companions=self.companions, amx=self.amx)
        return refine(found, self.known(self.spec.name, options)) if self.known else found

    def fit(self, machine: Machine, options: LoadOptions) -> _Fit | None:
        """Resolved options in their place on this machine, with the place written into them; None without room."""
        footprint = self.weigh(options)
        shape = self.model.info.shape
        layers = shape.layers if shape else 0
        placement = place(footprint, machine, options, layers, split=self.spec.split, on_cpu=self.on_cpu)
        if placement is None:
            return None
        on = [gpu.id for gpu in machine.gpus if gpu.id in placement.device_bytes]
        if not on:
            if options.device == "cpu":
                return _Fit(options, footprint, placement)
            # On the processor weights may be copied, which no GPU does: weigh once more.
            return self.fit(machine, replace(options, device="cpu", gpu_layers=0))
        decided = replace(
            options,
            device=",".join(on),
            # All is more than the model's layers to some engines: the output counts as one.
            gpu_layers=placement.gpu_layers if placement.gpu_layers < layers else options.gpu_layers,
            tensor_split=tuple(float(count) for count in placement.gpu_split),
            main_gpu=0,
        )
        exact = self.weigh(decided)
        more = max(0, exact.total_bytes - footprint.total_bytes)
        beside = placement.device_bytes["cpu"] + more
        if more and beside > room(machine.memory):
            return None
        return _Fit(decided, exact, replace(placement, device_bytes={**placement.device_bytes, "cpu": beside}))


def _engine(model: Model, options: LoadOptions, machine: Machine, specs: Specs) -> tuple[str, str]:
    """The engine's name and why it. Raises BadOption, UnsupportedFormat, EngineNotInstalled."""
    info = model.info
    ranked = rank(info, machine, specs)
    able = [one.engine for one in ranked]
    if options.engine != "auto":
        if options.engine not in specs:
            raise BadOption("engine", options.engine, f"auto or one of {', '.join(sorted(specs))}")
        spec, availability = specs[options.engine]
        why_not = obstacle(info, spec)
        if not why_not and not usable(machine, spec, availability):
            why_not = f"{spec.title} needs a device of {', '.join(sorted(spec.devices))}"
        if why_not and able:
            raise BadOption("engine", options.engine, f"one of {', '.join(able)}: {why_not}")
        if why_not:
            raise UnsupportedFormat(info.path, f"{why_not}; {runs_elsewhere(info)}")
        if not availability.available:
            raise EngineNotInstalled(options.engine, model.id, spec.install_command or availability.reason)
        return options.engine, f"{spec.title} was asked for"
    if not ranked:
        raise UnsupportedFormat(
            info.path,
            what_it_needs(info),
            format=info.format.value,
            quantization=info.quantization.label if info.quantization else None,
        )
    best = ranked[0]
    if not best.available:
        spec, availability = specs[best.engine]
        raise EngineNotInstalled(best.engine, model.id, spec.install_command or availability.reason)
    return best.engine, best.reason


def _make_room(case: _Case) -> tuple[_Fit, tuple[str, ...]]:
    """The model in the best place it can have, and who leaves for it. Raises DoesNotFit."""
    options = case.resolve(case.after(()))
    emptied = case.after([one for one in case.running if not one.busy and not one.pinned])
    at_best = case.fit(emptied, options)
    if at_best is None:
        # Layers on the processor may be copied, which was not known when the open options were decided.
        options = least_options(case.model.info, case.options, options)
        at_best = case.fit(emptied, options)
    if at_best is None:
        raise _shortage(case, options, emptied)
    goal = at_best.placement.gpu_layers

    def enough(gone: Sequence[Running]) -> bool:
        found = case.fit(case.after(gone), options)
        return found is not None and found.placement.gpu_layers >= goal

    gone = leaving(case.running, enough) or ()
    machine = case.after(gone)
    if gone:
        # Options were decided for memory that was full; whoever leaves anyway makes room for more.
        roomier = case.fit(machine, case.resolve(machine))
        if roomier is not None and roomier.placement.gpu_layers >= goal:
            return roomier, gone
    return case.fit(machine, options) or at_best, gone


def _shortage(case: _Case, options: LoadOptions, machine: Machine) -> DoesNotFit:
    def fits(changed: LoadOptions) -> bool:
        return case.fit(machine, changed) is not None

    changes, advice = would_fit(case.options, options, case.model.info, fits)
    needed = case.weigh(replace(options, device="cpu", gpu_layers=0) if case.on_cpu else options)
    free = max((room(device) for device in machine.devices if case.on_cpu or device.kind != "cpu"), default=0)
    return DoesNotFit(case.model.id, needed.total_bytes, free, advice, changes)


def _warnings(case: _Case, fit: _Fit, machine: Machine) -> tuple[str, ...]:
    found = [*unhonoured(case.options, case.spec)]
    info, trained = case.model.info, case.model.info.context_length or 0
    unused = [gpu.name for gpu in machine.gpus if gpu not in case.ground.gpus]
    if unused and case.options.device != "cpu":
        found.append(f"{', '.join(unused)} cannot be used by this install of {case.spec.title}")
    if case.options.gpu_layers > 0 and not fit.placement.gpu_layers:
        found.append(f"gpu_layers {case.options.gpu_layers} was asked for, and there is no GPU to use")
    if not case.options.ctx and fit.options.ctx < trained:
        found.append(f"ctx is {fit.options.ctx} of {trained} trained, as memory allows; set ctx for another")
    unknown = [path for path in companion_paths(case.options) if path not in case.companions]
    if unknown:
        found.append(f"the memory of {', '.join(unknown)} is not counted in the estimate")
    if info.shape is None:
        found.append("its header does not tell its shape: the estimate is rough")
    return tuple(found)
