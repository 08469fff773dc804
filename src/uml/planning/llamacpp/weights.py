"""Where llama.cpp puts the weights: mapped, copied for the processor, or on GPUs. Tensor by tensor.

Measured on the build pinned in pyproject against its `model buffer size` lines (CPU_Mapped, CPU_REPACK, AMX).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from uml.core.model import ModelInfo, TensorGroup
from uml.core.options import LoadOptions
from uml.planning.overrides import CPU, moved

REPACKED: Final = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4", "Q2_K"})
"""Types that a build for AVX2 copies into rows its kernels like (`CPU_REPACK`), byte for byte."""

AMX_FACTORS: Final = {"Q8_0": (38, 34), "Q4_K": (148, 144), "Q5_K": (180, 176)} | dict.fromkeys(
    ("Q4_0", "Q4_1", "Q6_K", "IQ4_XS", "F16"), (1, 1)
)
"""Types that a build for AMX copies (`AMX`), and by how much the copy is larger."""

_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of weights.

    stored: all, as they lie in the file. host: of those, what the processor computes with or looks up.
    span: of the file, from the first to the last tensor that stays where it is mapped.
    originals, copied: what is re-ordered, in the file and in memory of its own.
    doubled: copies whose original is read all the same (a table of tokens that is the output too).
    gpu: on GPUs, an output shared with the table of tokens counted again.
    """

    stored: int
    host: int
    span: int
    originals: int
    copied: int
    doubled: int
    gpu: int


def place_weights(info: ModelInfo, options: LoadOptions, gpu_layers: int, amx: bool) -> Weights:
    """What becomes of each tensor when the last `gpu_layers` layers are on GPUs (the output with the last of them).

    `override_tensor` moves single tensors, where the header lists them.
    """
    shape = info.shape
    if shape is None or not shape.tensors:
        return _by_kind(info, options, gpu_layers, amx)
    stored = host = originals = copied = gpu = doubled = 0
    first, last = None, 0
    tied = all(group.name != _OUTPUT for group in shape.tensors)
    elsewhere = moved(shape.tensors, options)
    for group in shape.tensors:
        size = group.each_bytes * group.count
        stored += size
        here = group.each_bytes * _on_processor(group, options, shape.layers, gpu_layers, elsewhere)
        gpu += size - here
        host += here
        if not here:
            continue
        larger = _copied(group, amx) if options.repack else None
        shared = tied and group.name == _EMBEDDING
        if group.name == _EMBEDDING and (not shared or gpu_layers >= shape.layers > 0):
            larger = None
            gpu += size if shared and (group.name, -1) not in elsewhere else 0
        if larger:
            copy = here * larger[0] // larger[1]
            copied, doubled = (copied, doubled + copy) if shared else (copied + copy, doubled)
            originals += 0 if shared else here
        if not larger or shared:
            first = group.begin if first is None else min(first, group.begin)
            last = max(last, group.end)
    return Weights(stored, host, last - (first or 0), originals, copied, doubled, gpu)


def _on_processor(
    group: TensorGroup, options: LoadOptions, layers: int, gpu_layers: int, elsewhere: Mapping[tuple[str, int], str]
) -> int:
    """How many tensors of a group stay beside the GPUs."""
    if not group.layers:
        if device := elsewhere.get((group.name, -1)):
            return int(device == CPU)
        return int(group.name == _EMBEDDING or gpu_layers < layers or not gpu_layers)
    stays = layers - gpu_layers
    if "_exps" in group.name:
        stays = max(stays, options.cpu_moe_layers)
    if not gpu_layers:
        stays = group.layers[-1] + 1
    here = bisect_left(group.layers, stays)
    for layer in group.layers if elsewhere else ():
        if device := elsewhere.get((group.name, layer)):
            here += (device == CPU) - (layer < stays)
    return here


def _copied(group: TensorGroup, amx: bool) -> tuple[int, int] | None:
    """By how much a copy is larger, as a fraction; None for what is used as it lies.

    Matrices of several layers in one (latent attention) are not copied, those of experts are.
    """
    if len(group.dims) < 2:
        return None
    experts = "_exps" in group.name
    if amx and len(group.dims) == 2 and group.kind in AMX_FACTORS and group.dims[1] % 32 == 0:
        return AMX_FACTORS[group.kind]
    if group.kind in REPACKED and group.dims[1] % 8 == 0 and (experts or len(group.dims) == 2):
        return 1, 1
    return None


def _by_kind(info: ModelInfo, options: LoadOptions, gpu_layers: int, amx: bool) -> Weights:
    """Shares of layers and of types, where nobody has listed the tensors."""
    layers = info.shape.layers if info.shape else 0
    share = max(0.0, 1.0 - gpu_layers / layers) if layers else float(not gpu_layers)
    stored = stored_bytes(info)
    originals = copied = 0
    for kind, count in _kinds(info, options, amx):
        times, over = AMX_FACTORS.get(kind, (1, 1)) if amx else (1, 1)
        originals += count
        copied += count * times // over
    host = int(stored * share)
    originals, copied = int(originals * share), int(copied * share)
    return Weights(stored, host, host - originals, originals, copied, 0, stored - host)


def _kinds(info: ModelInfo, options: LoadOptions, amx: bool) -> Iterator[tuple[str, int]]:
    if options.repack:
        for kind, count in info.weight_bytes.items():
            if kind in REPACKED or (amx and kind in AMX_FACTORS):
                yield kind, count


def stored_bytes(info: ModelInfo) -> int:
    """Bytes of all weights as they lie in the file."""
    return sum(info.weight_bytes.values()) or info.size_bytes
