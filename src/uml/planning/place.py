"""place(footprint, machine, options, layers) -> Placement | None: where the bytes go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from uml.core.engine import Split
from uml.core.errors import BadOption, gib
from uml.core.machine import Device, Machine
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, Placement

_MIB: Final = 1 << 20
CPU_MARGIN_BYTES: Final = 256 * _MIB
GPU_MARGIN_BYTES: Final = 1024 * _MIB
"""What llama.cpp's own fit leaves on each GPU: the driver's context, its kernels, fragments."""


def margin(device: Device) -> int:
    """Bytes that stay free whatever is placed: at most a sixteenth of the memory, an eighth of a GPU."""
    if device.kind == "cpu":
        return min(CPU_MARGIN_BYTES, device.total_bytes // 16)
    return min(GPU_MARGIN_BYTES, device.total_bytes // 8)


def room(device: Device) -> int:
    """Bytes that a model may take of this device."""
    return max(0, device.free_bytes - margin(device))


def chosen_gpus(machine: Machine, options: LoadOptions) -> tuple[Device, ...]:
    """The GPUs that the options allow, in the order in which they name them. Raises BadOption."""
    if options.device == "cpu" or options.gpu_layers == 0:
        return ()
    gpus = machine.gpus
    if options.device != "auto":
        known = {device.id: device for device in machine.devices}
        names = [name.strip() for name in options.device.split(",")]
        if any(name not in known for name in names):
            raise BadOption("device", options.device, f"auto, or of {', '.join(known)}")
        gpus = tuple(known[name] for name in dict.fromkeys(names) if known[name].kind != "cpu")
    if not gpus:
        return ()
    if options.tensor_split and len(options.tensor_split) != len(gpus):
        raise BadOption("tensor_split", list(options.tensor_split), f"{len(gpus)} shares, one a GPU")
    if options.main_gpu >= len(gpus):
        raise BadOption("main_gpu", options.main_gpu, f"a whole number from 0 to {len(gpus) - 1}")
    return (gpus[options.main_gpu],) if options.split_mode == "none" else gpus


def place(
    footprint: Footprint,
    machine: Machine,
    options: LoadOptions,
    layers: int,
    *,
    split: Split = "layers",
    on_cpu: bool = True,
) -> Placement | None:
    """The best place that has room: one GPU, several, a GPU and memory, memory; None when none has.

    layers: of the model; 0 when not known, then it is not cut. split: `whole` for an engine that cannot
    spread a model; on_cpu: whether it can compute layers in memory.
    The process and what it keeps beside the model stay in memory, wherever the layers are.
    Raises BadOption for a device or a split that is not there.
    """
    gpus = chosen_gpus(machine, options)
    task = _Task(footprint, options, layers, room(machine.memory))
    if gpus and (found := _on_gpus(task, gpus, split, on_cpu)):
        return found
    # Layers that somebody counted out for GPUs do not silently end up elsewhere.
    if not on_cpu or (gpus and options.gpu_layers > 0) or footprint.total_bytes > task.memory:
        return None
    reason = f"all in memory: {gib(footprint.total_bytes)} of {gib(task.memory)}"
    if gpus:
        reason += f"; {', '.join(gpu.id for gpu in gpus)} cannot hold one layer and its buffers"
    return Placement({machine.memory.id: footprint.total_bytes}, 0, layers, reason)


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be placed. memory: bytes that it may take beside the GPUs."""

    footprint: Footprint
    options: LoadOptions
    layers: int
    memory: int

    @property
    def per_layer(self) -> int:
        """Bytes of one layer, with its cache where that goes along."""
        cached = self.footprint.kv_bytes if self.options.kv_offload else 0
        return -(-(self.footprint.weight_bytes + cached) // max(1, self.layers))

    @property
    def wanted(self) -> int:
        """Layers that are to be on GPUs."""
        asked = self.options.gpu_layers
        return self.layers if asked < 0 else min(asked, self.layers)

    @property
    def resident(self) -> int:
        """Bytes in memory with every layer on a GPU."""
        return self.footprint.other_bytes + (0 if self.options.kv_offload else self.footprint.kv_bytes)

    @property
    def on_gpu(self) -> int:
        """Bytes of the whole model on one GPU."""
        return self.footprint.total_bytes - self.resident


def _on_gpus(task: _Task, gpus: Sequence[Device], split: Split, on_cpu: bool) -> Placement | None:
    """The best placement with GPUs; None when not even one layer and its buffers fit."""
    whole = task.wanted == task.layers or not task.layers
    if whole and not task.options.tensor_split:
        best = max(gpus, key=room)
        if task.on_gpu <= room(best) and task.on_gpu * (best.kind == "metal") + task.resident <= task.memory:
            used = {best.id: task.on_gpu, "cpu": task.resident}
            reason = f"all on {best.id} ({best.name}): {gib(task.on_gpu)} of {gib(room(best))}"
            return Placement(used, task.layers, task.layers, reason)
    if split == "whole" or not task.layers:
        return None
    counts = _shares(task, gpus)
    on = sum(counts)
    rest = task.layers - on
    if not on or (on < task.wanted and task.options.gpu_layers > 0) or (rest and not on_cpu):
        return None
    compute = task.footprint.compute_bytes
    pairs = [(gpu, count) for gpu, count in zip(gpus, counts, strict=True) if count]
    used = {gpu.id: count * task.per_layer + compute for gpu, count in pairs}
    used["cpu"] = task.resident + rest * task.per_layer + (compute if rest else 0)
    # The GPU of an Apple chip has the machine's own memory.
    shared = sum(used[gpu.id] for gpu, _ in pairs if gpu.kind == "metal")
    if used["cpu"] + shared > task.memory:
        return None
    shares = ", ".join(f"{count} on {gpu.id}" for gpu, count in pairs) + (f", {rest} in memory" if rest else "")
    split_counts = tuple(count for _, count in pairs) if len(pairs) > 1 else ()
    return Placement(used, on, task.layers, f"{task.layers} layers by free memory: {shares}", split_counts)


def _shares(task: _Task, gpus: Sequence[Device]) -> list[int]:
    """Layers on each GPU: in proportion to its room, and never more than it holds.

    Shares that somebody asked for are kept as they are: rather fewer layers than another ratio.
    """
    rooms = [max(0, room(gpu) - task.footprint.compute_bytes) for gpu in gpus]
    holds = [count // task.per_layer if task.per_layer else task.layers for count in rooms]
    asked = task.options.tensor_split
    if not asked:
        return _apportion(min(task.wanted, sum(holds)), rooms, holds)
    open_ = [task.layers if share else 0 for share in asked]
    for wanted in range(task.wanted if any(asked) else 0, 0, -1):
        counts = _apportion(wanted, asked, open_)
        if all(count <= held for count, held in zip(counts, holds, strict=True)):
            return counts
    return [0] * len(gpus)


def _apportion(wanted: int, shares: Sequence[float], most: Sequence[int]) -> list[int]:
    """`wanted` layers by these shares, each up to its `most`; the sum of `most` is at least `wanted`."""
    total = sum(shares) or 1
    goals = [wanted * share / total for share in shares]
    counts = [min(limit, int(goal)) for limit, goal in zip(most, goals, strict=True)]
    while sum(counts) < wanted:
        # The next layer goes where the count lags most behind its share and there is room.
        below = [i for i, limit in enumerate(most) if counts[i] < limit]
        counts[max(below, key=lambda i: (goals[i] - counts[i], -i))] += 1
    return counts


def within_budget(machine: Machine, budget_bytes: int | None, taken: Mapping[str, int]) -> Machine:
    """The machine with only as much free as is safe to hand out: min(reported, total - taken, budget - taken).

    A report may lag behind what was promised, and counts pages of mapped files as free. taken: bytes
    handed out, by device. The budget is for memory, and for GPUs that are a part of it.
    """

    def capped(device: Device) -> Device:
        used = taken.get(device.id, 0)
        free = min(device.free_bytes, device.total_bytes - used)
        if budget_bytes is not None and device.kind in ("cpu", "metal"):
            # A budget is meant to the byte; the margin is for what a report does not know.
            free = min(free, budget_bytes - used + margin(device))
        return replace(device, free_bytes=max(0, free))

    return replace(machine, memory=capped(machine.memory), gpus=tuple(capped(gpu) for gpu in machine.gpus))
