"""runner(model, options, machine, specs, ...) -> Runner: the engine, its install, and what they can use here."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from uml.core.engine import Availability, EngineSpec
from uml.core.errors import BadOption, EngineNotInstalled, UnsupportedFormat
from uml.core.machine import Machine
from uml.core.model import Model, ModelInfo
from uml.core.options import LoadOptions
from uml.planning.advice import how_to_use, runs_elsewhere, what_it_needs
from uml.planning.rank import Honours, Ranked, Specs, by_dialect, choice, needs_of, obstacle, rank, usable


@dataclass(frozen=True, slots=True)
class Runner:
    """Who runs a model.

    engine: its name; why: why this one, as a sentence. availability: of the install that runs it.
    machine: with the GPUs that this install can use, and no others; on_cpu: whether it can compute in memory.
    """

    engine: str
    spec: EngineSpec
    availability: Availability
    why: str
    machine: Machine
    on_cpu: bool

    @property
    def amx(self) -> bool:
        """Whether weights are copied for AMX: only a build for this very machine, not the wheel for all, has it."""
        return self.availability.way in ("external", "native") and "amx_int8" in self.machine.instructions


def runner(
    model: Model,
    options: LoadOptions,
    machine: Machine,
    specs: Specs,
    wants: Sequence[str] = (),
    honours: Honours = by_dialect,
) -> Runner:
    """The engine that was asked for, else the best that is installed.

    Raises BadOption; UnsupportedFormat: nothing runs the model, or not on its own; EngineNotInstalled.
    """
    if sentence := how_to_use(model.info):
        raise UnsupportedFormat(model.info.path, sentence, role=model.info.role.value)
    ranked = rank(model.info, machine, specs, (*needs_of(options), *wants), honours)
    if options.engine == "auto":
        name, availability, why = _best(model, specs, ranked)
    else:
        name, availability, why = _asked(model, options, machine, specs, ranked)
    spec = specs[name][0]
    if options.device == "cpu" and "cpu" not in (availability.devices or spec.devices):
        raise BadOption("device", options.device, f"auto: {spec.title} runs on {', '.join(sorted(spec.devices))}")
    devices = usable(machine, spec, availability)
    gpus = tuple(device for device in devices if device.kind != "cpu")
    on_cpu = any(device.kind == "cpu" for device in devices)
    return Runner(name, spec, availability, why, replace(machine, gpus=gpus), on_cpu)


def _asked(
    model: Model, options: LoadOptions, machine: Machine, specs: Specs, ranked: Sequence[Ranked]
) -> tuple[str, Availability, str]:
    """The engine that the options name, the install of it that runs the model, and why it."""
    info = model.info
    name, availability = named(options.engine, info, specs)
    spec = specs[name][0]
    why_not = obstacle(info, spec, availability)
    if not why_not and not usable(machine, spec, availability):
        why_not = f"{spec.title} needs a device of {', '.join(sorted(availability.devices or spec.devices))}"
    if why_not and ranked:
        able = ", ".join(one.engine for one in ranked)
        raise BadOption("engine", options.engine, f"one of {able}: {why_not}")
    if why_not:
        raise UnsupportedFormat(info.path, f"{why_not}; {runs_elsewhere(info)}")
    if not availability.available:
        raise EngineNotInstalled(availability.install or name, model.id, availability.command(spec))
    which = "".join(f" {word}" for word in (availability.install, options.engine_version) if word)
    return name, availability, f"{spec.title}{which} was asked for"


def _best(model: Model, specs: Specs, ranked: Sequence[Ranked]) -> tuple[str, Availability, str]:
    """The first of these engines, the install of it that runs the model, and why it."""
    info = model.info
    if not ranked:
        raise UnsupportedFormat(
            info.path,
            what_it_needs(info),
            format=info.format.value,
            quantization=info.quantization.label if info.quantization else None,
        )
    best = ranked[0]
    state = specs[best.engine][1].of(info)
    if not best.available:
        raise EngineNotInstalled(state.install or best.engine, model.id, best.command)
    return best.engine, state, choice(ranked)


def named(engine: str, info: ModelInfo, specs: Specs) -> tuple[str, Availability]:
    """What the option `engine` names: an engine, or another install of one, as `uml engine ls` calls it.

    Result: the engine, and the install that runs this model by it. Raises BadOption.
    """
    if engine in specs:
        return engine, specs[engine][1].of(info)
    others = [(name, state) for name, (_, said) in specs.items() for state in said.others.values()]
    found = next(((name, state) for name, state in others if state.install == engine), None)
    if found is None:
        close = difflib.get_close_matches(engine.lower().replace(".", ""), sorted(specs), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise BadOption("engine", engine, f"auto or one of {', '.join(sorted(specs))}{hint}")
    return found
