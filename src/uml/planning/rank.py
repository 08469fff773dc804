"""Who can run a model, best first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from uml.core.engine import Availability, EngineSpec
from uml.core.machine import Device, Machine
from uml.core.model import READERS, Format, ModelInfo, Role
from uml.core.options import LoadOptions, options_by_name

INSTALLED: Final = 100.0
ON_GPU: Final = 20.0
SPECIAL: Final = 10.0
"""For the one format that an engine runs; of several, each counts for its share."""
LACKING: Final = -40.0
"""For an engine that cannot do something that is needed: it loses to every other that is as near at hand."""
AWAY: Final = -10.0

_ABILITIES: Final = ("lora", "mmproj", "embeddings", "draft_model", "control_vector")
"""Load options that ask for something that an engine can do or cannot."""
_INPUTS: Final = frozenset({"image", "audio", "video"})


Specs = Mapping[str, tuple[EngineSpec, Availability]]
"""Every engine by name, and whether it can be started here."""
Honours = Callable[[EngineSpec, str], bool]
"""Whether an engine honours a request parameter of this name."""


def by_dialect(spec: EngineSpec, name: str) -> bool:
    """Whether an engine's dialect has the parameter; values that are said in another way are not looked at."""
    return spec.dialect.get(name, name) is not None


@dataclass(frozen=True, slots=True)
class Ranked:
    """An engine that can run the model. `score` only orders; `available` is whether it is installed.

    command: what installs it, where it is not. lacks: of what is needed, what it cannot do.
    """

    engine: str
    score: float
    available: bool
    reason: str
    command: str = ""
    lacks: tuple[str, ...] = ()

    @property
    def suits(self) -> float:
        """The score that it would have if every engine were installed."""
        return self.score - INSTALLED * self.available


def rank(
    info: ModelInfo,
    machine: Machine | None,
    specs: Specs,
    needs: Collection[str] = (),
    honours: Honours = by_dialect,
) -> tuple[Ranked, ...]:
    """The engines that can run it, best first; those that are not installed come after, and say so.

    Installed before not installed; one that can do all that is needed before one that cannot; one that can use this
    machine's GPUs before one that cannot; one that is made for the device before one that runs there too; one made for
    few formats before one that takes many; else in the order of `specs`. Without a machine, on any.

    needs: names of load options and request parameters that it should honour, and kinds of input (`image`, ...).
    """
    found = []
    for name, (spec, said) in specs.items():
        availability = said.of(info)
        if obstacle(info, spec, availability) or _takes_anything(spec):
            continue
        devices = usable(machine, spec, availability) if machine else ()
        if machine and not devices:
            continue
        lacks = lacking(info, spec, needs, honours)
        score = INSTALLED * availability.available + _suits(spec, devices, lacks)
        command = "" if availability.available else availability.command(spec)
        reason = _reason(info, spec, availability, devices, lacks)
        found.append(Ranked(name, score, availability.available, reason, command, lacks))
    return tuple(sorted(found, key=lambda ranked: -ranked.score))


def choice(ranked: Sequence[Ranked]) -> str:
    """Why the first of them is taken, and which one that is not installed would suit better. Empty for none."""
    if not ranked:
        return ""
    best = ranked[0]
    if not best.available:
        return f"{best.reason}: {best.command}"
    better = max((one for one in ranked if not one.available), key=lambda one: one.suits, default=best)
    if better.suits <= best.suits:
        return best.reason
    return f"{best.reason}; {better.engine} would suit it better and is not installed: {better.command}"


def needs_of(options: LoadOptions) -> tuple[str, ...]:
    """What an engine must be able to do for these load options."""
    return tuple(name for name in _ABILITIES if getattr(options, name))


def lacking(
    info: ModelInfo, spec: EngineSpec, needs: Collection[str], honours: Honours = by_dialect
) -> tuple[str, ...]:
    """Of what is needed, what this engine cannot do."""
    return tuple(need for need in needs if not _can(info, spec, need, honours))


def _can(info: ModelInfo, spec: EngineSpec, need: str, honours: Honours) -> bool:
    if need == "embeddings" and info.role in READERS:
        return True
    if need in _INPUTS:
        return need in spec.inputs or "mmproj" in spec.options
    if need in options_by_name():
        return need in spec.options
    return honours(spec, need)


def _suits(spec: EngineSpec, devices: Sequence[Device], lacks: Sequence[str]) -> float:
    on_gpu = any(device.kind != "cpu" for device in devices)
    away = bool(devices and spec.home) and not any(device.kind in spec.home for device in devices)
    missing = LACKING * bool(lacks) - len(lacks)
    return ON_GPU * on_gpu + SPECIAL / len(spec.formats) + AWAY * away + missing


def _reason(
    info: ModelInfo, spec: EngineSpec, state: Availability, devices: Sequence[Device], lacks: Sequence[str]
) -> str:
    gpu = next((device for device in devices if device.kind != "cpu"), None)
    place = f" on {gpu.name}" if gpu else " on the processor" if devices else ""
    # Only where the version tells is it more than a hope.
    known = f" and knows {info.architecture}" if info.architecture in state.architectures else ""
    without = f", without {', '.join(lacks)}" if lacks else ""
    installed = ("installed" if state.available else "not installed") + (f" ({state.install})" if state.install else "")
    name = info.version if info.format is Format.UNKNOWN else info.format
    method = info.quantization
    coded = f" ({method.label})" if method and info.format is Format.SAFETENSORS and method.method != "none" else ""
    return f"{spec.title} runs {name}{coded}{place}{known}{without}; {installed}"


def _takes_anything(spec: EngineSpec) -> bool:
    """Whether it claims what nobody knows: such an engine reads no model, and runs when it is asked for by name."""
    return Format.UNKNOWN in spec.formats and not spec.kinds


def obstacle(info: ModelInfo, spec: EngineSpec, availability: Availability | None = None) -> str | None:
    """Why this engine cannot run this model, or None. availability: of the install that would."""
    if info.format not in spec.formats:
        return f"{spec.title} does not run {info.format}, only {', '.join(sorted(spec.formats))}"
    if info.format is Format.UNKNOWN and spec.kinds and info.version not in spec.kinds:
        what = info.version or "what nobody knows"
        return f"{spec.title} does not run {what}, only {', '.join(sorted(spec.kinds))}"
    method = info.quantization.method if info.quantization else "none"
    if spec.quantizations and method not in spec.quantizations:
        return f"{spec.title} does not run {method} weights, only {', '.join(sorted(spec.quantizations))}"
    # Where the header does not say what it is for, a text model is the likeliest, and the engine will tell.
    role = Role.TEXT if info.role is Role.UNKNOWN else info.role
    if role not in spec.roles:
        return f"{spec.title} does not serve {role} models, only {', '.join(sorted(spec.roles))}"
    known = availability.architectures if availability else frozenset()
    if known and info.architecture and info.architecture not in known:
        version = f" {availability.version}" if availability and availability.version else ""
        return f"{spec.title}{version} does not know the architecture {info.architecture}"
    return None


def usable(machine: Machine, spec: EngineSpec, availability: Availability) -> tuple[Device, ...]:
    """The devices of this machine that this install of the engine can use, GPUs first."""
    kinds = availability.devices or spec.devices
    return tuple(device for device in machine.devices if device.kind in kinds)
