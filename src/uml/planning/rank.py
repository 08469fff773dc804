"""Who can run a model, best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from uml.core.engine import Availability, EngineSpec
from uml.core.machine import Device, Machine
from uml.core.model import Format, ModelInfo, Role


@dataclass(frozen=True, slots=True)
class Ranked:
    """An engine that can run the model. `score` only orders; `available` is whether it is installed."""

    engine: str
    score: float
    available: bool
    reason: str


def rank(
    info: ModelInfo, machine: Machine | None, specs: Mapping[str, tuple[EngineSpec, Availability]]
) -> tuple[Ranked, ...]:
    """The engines that can run it, best first; those that are not installed come after, and say so.

    Installed before not installed; one that can use this machine's GPUs before one that cannot; one made
    for few formats before one that takes many; else in the order of `specs`. Without a machine, on any.
    """
    found = []
    for name, (spec, availability) in specs.items():
        if obstacle(info, spec) or _takes_anything(spec):
            continue
        devices = usable(machine, spec, availability) if machine else ()
        if machine and not devices:
            continue
        gpus = [device for device in devices if device.kind != "cpu"]
        score = 100.0 * availability.available + 20.0 * bool(gpus) + 10.0 / len(spec.formats)
        place = f" on {gpus[0].name}" if gpus else " on the processor" if devices else ""
        state = "installed" if availability.available else "not installed"
        found.append(Ranked(name, score, availability.available, f"{spec.title} runs {info.format}{place}; {state}"))
    return tuple(sorted(found, key=lambda ranked: -ranked.score))


def _takes_anything(spec: EngineSpec) -> bool:
    """Whether it claims what nobody knows: such an engine reads no model, and runs when it is asked for by name."""
    return Format.UNKNOWN in spec.formats


def obstacle(info: ModelInfo, spec: EngineSpec) -> str | None:
    """Why this engine cannot run this model, or None."""
    if info.format not in spec.formats:
        return f"{spec.title} does not run {info.format}, only {', '.join(sorted(spec.formats))}"
    method = info.quantization.method if info.quantization else "none"
    if spec.quantizations and method not in spec.quantizations:
        return f"{spec.title} does not run {method} weights, only {', '.join(sorted(spec.quantizations))}"
    # Where the header does not say what it is for, a text model is the likeliest, and the engine will tell.
    role = Role.TEXT if info.role is Role.UNKNOWN else info.role
    if role not in spec.roles:
        return f"{spec.title} does not serve {role} models, only {', '.join(sorted(spec.roles))}"
    return None


def usable(machine: Machine, spec: EngineSpec, availability: Availability) -> tuple[Device, ...]:
    """The devices of this machine that this install of the engine can use, GPUs first."""
    kinds = availability.devices or spec.devices
    return tuple(device for device in machine.devices if device.kind in kinds)
