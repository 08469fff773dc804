"""What a model would take that nothing here runs: in an engine that is not installed, or that is no part of us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from uml.core.engine import Availability, EngineSpec, Split
from uml.core.machine import Machine
from uml.core.model import READERS, Format, Model, ModelInfo, Role
from uml.core.options import OPTIONS, LoadOptions
from uml.core.plan import LoadPlan, Placement
from uml.planning import libraries
from uml.planning.advice import how_to_use, runs_elsewhere
from uml.planning.budget import Budget
from uml.planning.plan import plan
from uml.planning.rank import usable
from uml.planning.resolve import unhonoured

_HERE: Final = Availability(True, reason="supposed to be here")
_ROLES: Final = frozenset({Role.TEXT, *READERS, Role.DRAFT})
_OPTIONS: Final = frozenset({"ctx", "parallel", "gpu_layers", "tensor_split", "main_gpu", "split_mode", "mmap"})
_ALL_OPTIONS: Final = frozenset(option.name for option in OPTIONS)
_CACHE_TYPES: Final = frozenset({"cache_type_k", "cache_type_v"})
_ANY: Final = frozenset({"cpu", "cuda", "rocm", "metal", "vulkan"})
_NVIDIA: Final = frozenset({"cuda"})


def _spec(
    title: str, formats: set[Format], devices: frozenset[str], split: Split, options: frozenset[str] = _OPTIONS
) -> EngineSpec:
    return EngineSpec(
        name=title.lower().replace(" ", "-"),
        title=title,
        formats=frozenset(formats),
        roles=_ROLES,
        devices=devices,
        split=split,
        served=False,
        options=options,
    )


ENGINES: Final = (
    _spec("Transformers", {Format.SAFETENSORS, Format.PYTORCH}, _ANY - {"vulkan"}, "devices"),
    _spec("ExLlama", {Format.EXL2, Format.EXL3}, _NVIDIA, "devices", _OPTIONS | _CACHE_TYPES),
    _spec("ONNX Runtime", {Format.ONNX, Format.ONNX_GENAI}, frozenset({"cpu", "cuda"}), "whole"),
    _spec("TensorRT-LLM", {Format.TENSORRT_LLM}, _NVIDIA, "whole"),
)
"""Who runs a format, and on what; `planning.advice` has the sentence for people."""

_ON_GPUS: Final = frozenset(
    {"fp8", "fbgemm-fp8", "ptpc-fp8", "modelopt", "nvfp4", "quark", "vptq", "spqr", "higgs", "eetq", "fp-quant"}
    | {"experts-int8"}
)
"""Quantizations of safetensors that run on GPUs only."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a load would be if its engine were here.

    needs: who runs it, as a sentence.
    lacking: the device that it needs besides, and that is not here: then it has no place. Empty for none.
    """

    plan: LoadPlan
    needs: str
    lacking: str = ""


def outlook(
    model: Model,
    options: LoadOptions,
    machine: Machine,
    budget: Budget | int | None = None,
    ours: EngineSpec | None = None,
    companions: Mapping[str, ModelInfo] | None = None,
) -> Outlook | None:
    """The plan of a model of a format that one of these engines runs, as if it were installed; None for others.

    ours: the engine that could be installed for it; it is planned for as it is then. companions: see `estimate`.

    Raises BadOption; DoesNotFit where the devices that it could use are here and too small.
    """
    info = model.info
    spec = next((_on_its_devices(info, spec) for spec in ENGINES if info.format in spec.formats), None)
    if spec is None or how_to_use(info):
        return None
    if ours is not None and usable(machine, ours, _HERE):
        decided = plan(model, options, machine, {ours.name: (ours, _HERE)}, (), budget, companions=companions)
        return Outlook(replace(decided, reason=decided.placement.reason), runs_elsewhere(info))
    devices = usable(machine, spec, _HERE)
    lacking = "" if devices else "an NVIDIA GPU" if spec.devices == _NVIDIA else "a GPU"
    if lacking:
        # Figures hardly depend on the device: let there be one that holds anything.
        boundless = replace(machine.memory, total_bytes=1 << 62, free_bytes=1 << 62)
        machine, budget = replace(machine, memory=boundless, gpus=()), None
    on_gpus = any(device.kind != "cpu" for device in devices) and options.device != "cpu" and options.gpu_layers != 0
    kind = libraries.cache_type(info, in_memory=not on_gpus)
    wanted = replace(options, parallel=options.parallel or 1)
    if kind:
        wanted = replace(wanted, cache_type_k=kind, cache_type_v=kind)
    # What it does not honour is told here, of the options as they were asked for.
    able = replace(spec, options=_ALL_OPTIONS, devices=frozenset({"cpu"}) if lacking else spec.devices)
    decided = plan(model, wanted, machine, {able.name: (able, _HERE)}, (), budget)
    told = (*unhonoured(options, spec), *decided.warnings)
    if lacking:
        nowhere = Placement({}, 0, decided.placement.layers, f"{spec.title} needs {lacking}, and there is none here")
        elsewhere = replace(decided.footprint, mapped_bytes=0, loaded_bytes=0, used_bytes=0)
        decided = replace(decided, placement=nowhere, footprint=elsewhere)
    decided = replace(decided, reason=decided.placement.reason, warnings=told)
    return Outlook(decided, runs_elsewhere(info), lacking)


def _on_its_devices(info: ModelInfo, spec: EngineSpec) -> EngineSpec:
    """The engine on the devices on which it runs this quantization."""
    method = info.quantization.method if info.quantization else "none"
    return replace(spec, devices=spec.devices - {"cpu"}) if method in _ON_GPUS else spec
