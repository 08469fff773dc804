"""place(footprint, machine, options, layers) -> Placement | None: where the bytes go."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import add
from typing import Final

from uml.core.engine import Split
from uml.core.errors import BadOption, gib
from uml.core.machine import Device, Machine
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, Placement
from uml.planning.budget import room
from uml.planning.layers import Layers
from uml.planning.overrides import CPU

_EVENNESS_STEPS: Final = 24
"""Halvings in the search for how full the GPUs must be: to a millionth of their room."""


def chosen_gpus(machine: Machine, options: LoadOptions) -> tuple[Device, ...]:
    """The GPUs that the options allow, in the order in which they name them. Raises BadOption."""
    if options.device == "cpu" or options.gpu_layers == 0:
        return ()
    gpus = machine.gpus
    if options.device != "auto":
        known = {device.id: device for device in machine.devices}
        names = [name.strip() for name in options.device.split(",")]
        if any(name not in known for name in names):
            none = "" if gpus else "; no GPU is found here"
            raise BadOption("device", options.device, f"auto, or one or more, with commas, of {', '.join(known)}{none}")
        gpus = tuple(known[name] for name in dict.fromkeys(names) if known[name].kind != "cpu")
    _check_shares(options.tensor_split, len(gpus))
    if not gpus:
        return ()
    if options.main_gpu >= len(gpus):
        raise BadOption("main_gpu", options.main_gpu, f"a whole number from 0 to {len(gpus) - 1}")
    return (gpus[options.main_gpu],) if options.split_mode == "none" else gpus


def _check_shares(shares: Sequence[float], gpus: int) -> None:
    if not shares:
        return
    if not gpus:
        raise BadOption("tensor_split", list(shares), "an empty list: there is no GPU to use")
    if len(shares) != gpus:
        raise BadOption("tensor_split", list(shares), f"{gpus} shares, one a GPU")
    if min(shares) < 0 or not any(shares):
        raise BadOption("tensor_split", list(shares), "shares of 0 and more, not all of them 0")


def place(
    footprint: Footprint,
    machine: Machine,
    options: LoadOptions,
    layers: int | Layers,
    *,
    split: Split = "layers",
    on_cpu: bool = True,
) -> Placement | None:
    """The best place that has room; None when none has.

    Best first: all on one GPU; all over several, by their free memory; all layers on GPUs but for experts of
    the first ones, which stay in memory; as many layers as GPUs hold, the rest in memory; all in memory.

    layers: of the model, or how many there are, all alike; 0 when not known, then it is not cut.
    split: `whole` for an engine that cannot spread a model; on_cpu: whether it can compute layers in memory.
    The process, what it keeps beside the model and the table of tokens stay in memory, wherever the layers are.
    Raises BadOption for a device or a split that is not there.
    """
    gpus = chosen_gpus(machine, options)
    known = Layers.even(layers) if isinstance(layers, int) else layers
    task = _Task.of(footprint, options, known, room(machine.memory), on_cpu)
    if gpus and (found := _on_one(task, gpus) or (_on_several(task, gpus) if split != "whole" else None)):
        return found
    # Layers that somebody counted out for GPUs do not silently end up elsewhere.
    counted_out = options.gpu_layers > 0 or any(device != CPU for device in task.pinned)
    if not on_cpu or (gpus and counted_out) or footprint.total_bytes > task.memory:
        return None
    reason = f"all in memory: {gib(footprint.total_bytes)} of {gib(task.memory)}"
    if gpus:
        reason += f"; {', '.join(gpu.id for gpu in gpus)} cannot hold one layer and its buffers"
    return Placement({machine.memory.id: footprint.total_bytes}, 0, known.count, reason)


def quality(placement: Placement) -> tuple[int, int]:
    """How good a place is, to compare those of one model: layers on GPUs, then experts that are not in memory.

    A model of unknown depth counts as one layer.
    """
    on_gpu = any(device != "cpu" for device in placement.device_bytes)
    return placement.gpu_layers or int(on_gpu), -placement.expert_layers


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be placed. memory: bytes that it may take beside the GPUs; costs in bytes, cache included.

    dense, experts: by layer; head: the output, on the GPU with the last layer; resident: in memory always.
    pinned: by device, tensors that somebody put there; those in memory are in `resident` too.
    """

    footprint: Footprint
    options: LoadOptions
    memory: int
    on_cpu: bool
    dense: tuple[int, ...]
    experts: tuple[int, ...]
    head: int
    resident: int
    pinned: Mapping[str, int]

    @classmethod
    def of(cls, footprint: Footprint, options: LoadOptions, layers: Layers, memory: int, on_cpu: bool) -> _Task:
        """Costs by layer, so that together they are the footprint's."""
        stored, weights = max(1, layers.total), footprint.weight_bytes
        cached = footprint.kv_bytes if options.kv_offload else 0
        shares = layers.cached or (1,) * layers.count
        parts = max(1, sum(shares))
        # Written out, and not by `_part`: this is most of the work for a model of thousands of layers.
        each = [
            -(-own * weights // stored) - (-cached * share // parts)
            for own, share in zip(layers.dense, shares, strict=True)
        ]
        inputs = layers.inputs * weights // stored
        pinned = {device: _part(count * weights, stored) for device, count in layers.pinned.items()}
        beside = footprint.other_bytes + (0 if options.kv_offload else footprint.kv_bytes) + inputs
        experts = tuple([-(-count * weights // stored) for count in layers.experts])
        head = _part(layers.head * weights, stored)
        resident = beside + pinned.get(CPU, 0)
        return cls(footprint, options, memory, on_cpu, tuple(each), experts, head, resident, pinned)

    @property
    def layers(self) -> int:
        """How many there are; 0 when that is not known."""
        return len(self.dense)

    @property
    def wanted(self) -> int:
        """Layers that are to be on GPUs."""
        asked = self.options.gpu_layers
        return self.layers if asked < 0 else min(asked, self.layers)

    @property
    def asked_experts(self) -> int:
        """Layers whose experts stay in memory because somebody said so."""
        return min(max(0, self.options.cpu_moe_layers), self.layers) if self.experts else 0

    @property
    def on_gpu(self) -> int:
        """Bytes of the whole model on one GPU."""
        return self.footprint.total_bytes - self.resident

    def kept(self, on: int, stay: int) -> int:
        """Bytes of experts that stay in memory, of those among the last `on` layers."""
        return sum(self.experts[self.layers - on : stay])

    def ends(self, stay: int) -> list[int]:
        """Where each layer, and last the output, ends when they lie on GPUs one behind the other; first a 0."""
        costs: Iterable[int] = self.dense
        if self.experts:
            # Once a step of a search, over thousands of layers: no call for each.
            costs = (*self.dense[:stay], *map(add, self.dense[stay:], self.experts[stay:]))
        return list(accumulate([*costs, self.head], initial=0))

    def in_memory(self, on: int, stay: int) -> int:
        """Bytes in memory with the last `on` layers on GPUs."""
        first = self.layers - on
        rest = sum(self.dense[:first]) + sum(self.experts[:first]) + self.kept(on, stay)
        return self.resident + rest + self.computed(rest)

    def computed(self, rest: int) -> int:
        """Bytes in which the processor computes what lies in memory: `rest`, or what somebody put there."""
        return self.footprint.compute_bytes if rest or self.pinned.get(CPU) else 0

    def room(self, gpu: Device) -> int:
        """Bytes of a GPU for layers: without its compute buffer, and what is put there anyway."""
        return max(0, room(gpu) - self.footprint.compute_bytes - self.pinned.get(gpu.id, 0))


def _part(product: int, whole: int) -> int:
    return -(-product // max(1, whole))


def _on_one(task: _Task, gpus: Sequence[Device]) -> Placement | None:
    """Whole on the GPU with most room; experts in memory only where somebody said so."""
    if (task.wanted < task.layers and task.layers) or task.options.tensor_split:
        return None
    if len(gpus) > 1 and any(device != CPU for device in task.pinned):
        return None
    best, stay = max(gpus, key=room), task.asked_experts
    kept = task.kept(task.layers, stay)
    on = task.on_gpu - kept
    beside = task.resident + kept + task.computed(kept)
    if task.computed(kept) and not task.on_cpu:
        return None
    if on > room(best) or beside + on * (best.kind == "metal") > task.memory:
        return None
    reason = f"all on {best.id} ({best.name}): {gib(on)} of {gib(room(best))}"
    if kept:
        reason += f"; the experts of {stay} layers in memory, as asked"
    reason += _as_moved(task)
    return Placement({best.id: on, "cpu": beside}, task.layers, task.layers, reason, (), stay)


def _on_several(task: _Task, gpus: Sequence[Device]) -> Placement | None:
    """Layers over all GPUs, or some on one; None when not even one layer and its buffers fit."""
    rooms = [task.room(gpu) for gpu in gpus]
    lay = _Lay(rooms, task.options.tensor_split, task.layers)
    open_ = bool(task.experts) and task.options.cpu_moe_layers < 0 and task.on_cpu
    # Without their experts most layers fit; where memory is short, whole layers free more of it.
    for most in (task.layers, 0) if open_ else (task.asked_experts,):
        on = lay.most(task.wanted, task.ends(most))
        if not on or (on < task.wanted and task.options.gpu_layers > 0):
            continue
        stay = _fewest(most, lambda stay, on=on: lay.counts(on, task.ends(stay)) is not None) if open_ else most  # type: ignore[misc]
        if found := _spread(task, gpus, lay, on, stay):
            return found
    return None


def _fewest(most: int, fits: Callable[[int], bool]) -> int:
    """The smallest number up to `most` that fits, where larger ones fit too, and `most` does."""
    return bisect_left(range(most), True, key=fits)


@dataclass(frozen=True, slots=True)
class _Lay:
    """Ways to lay layers over GPUs. rooms: bytes of each; shares: as somebody asked for, or none."""

    rooms: Sequence[int]
    shares: Sequence[float]
    layers: int

    def counts(self, on: int, ends: Sequence[int], full: float = 1.0) -> list[int] | None:
        """How many of the last `on` layers, and the output, each GPU takes; None where not all fit.

        full: the share of its room up to which each GPU is filled.
        """
        first = self.layers - on
        if self.shares:
            return _as_asked(ends, first, self.rooms, self.shares)
        return _filled(ends, first, self.rooms, full)

    def most(self, wanted: int, ends: Sequence[int]) -> int:
        """The most layers, up to those wanted, that fit; 0 for none."""
        if self.shares:
            return next((on for on in range(wanted, 0, -1) if self.counts(on, ends)), 0)
        return bisect_left(range(1, wanted + 1), True, key=lambda on: self.counts(on, ends) is None)

    def evenly(self, on: int, ends: Sequence[int]) -> list[int]:
        """The same with all GPUs as equally full as layers can be cut."""
        best, low, high = self.counts(on, ends) or [], 0.0, 1.0
        for _ in range(_EVENNESS_STEPS if len(self.rooms) > 1 and not self.shares else 0):
            middle = (low + high) / 2
            if found := self.counts(on, ends, middle):
                best, high = found, middle
            else:
                low = middle
        return best


def _spread(task: _Task, gpus: Sequence[Device], lay: _Lay, on: int, stay: int) -> Placement | None:
    """The last `on` layers over these GPUs, each as full as the others; None where memory is too small for the rest."""
    rest = task.layers - on
    kept, beside = task.kept(on, stay), task.in_memory(on, stay)
    if task.computed(rest + kept) and not task.on_cpu:
        return None
    ends = task.ends(stay)
    counts = lay.evenly(on, ends)
    stops = list(accumulate(counts, initial=rest))
    used = {
        gpu.id: ends[stop] - ends[start] + task.footprint.compute_bytes + task.pinned.get(gpu.id, 0)
        for gpu, start, stop in zip(gpus, stops, stops[1:], strict=False)
        if stop > start or gpu.id in task.pinned
    }
    if any(used[gpu.id] > room(gpu) for gpu in gpus if gpu.id in used):
        return None
    # The GPU of an Apple chip has the machine's own memory.
    shared = sum(used[gpu.id] for gpu in gpus if gpu.id in used and gpu.kind == "metal")
    if beside + shared > task.memory:
        return None
    shares = [count for gpu, count in zip(gpus, counts, strict=True) if gpu.id in used]
    last = max(place for place, count in enumerate(shares) if count)
    shares[last] -= 1  # the output
    reason = _reason(task, [gpu for gpu in gpus if gpu.id in used], shares, rest, stay)
    split = tuple(shares) if len(shares) > 1 else ()
    return Placement({**used, "cpu": beside}, on, task.layers, reason, split, stay if kept else 0)


def _reason(task: _Task, gpus: Sequence[Device], shares: Sequence[int], rest: int, stay: int) -> str:
    several = len(gpus) > 1
    free = {gpu.id: f" ({gib(room(gpu))} free)" if several else "" for gpu in gpus}
    parts = [f"{count} on {gpu.id}{free[gpu.id]}" for gpu, count in zip(gpus, shares, strict=True)]
    parts += [f"{rest} in memory"] if rest else []
    by = "as tensor_split asks" if task.options.tensor_split else "by free memory"
    alone = "" if rest or not several or task.options.tensor_split else f"no GPU alone holds {gib(task.on_gpu)}: "
    words = f"{alone}{task.layers} layers {by}: {', '.join(parts)}"
    if kept := task.kept(task.layers - rest, stay):
        words += f"; the experts of the first {stay} in memory ({gib(kept)}), so that more layers are on the GPU"
    return words + _as_moved(task)


def _as_moved(task: _Task) -> str:
    """What override_tensor says of it."""
    where = [f"{gib(size)} {f'on {id}' if id != CPU else 'in memory'}" for id, size in task.pinned.items()]
    return f"; {' and '.join(where)}, as override_tensor asks" if where else ""


def _filled(ends: Sequence[int], first: int, rooms: Sequence[int], full: float) -> list[int] | None:
    """Entries behind `first`, in order, for each GPU, when each is filled up to this share; None: not all fit."""
    counts, done = [], first
    for space in rooms:
        most = bisect_right(ends, ends[done] + int(space * full)) - 1
        counts.append(most - done)
        done = most
    return counts if done == len(ends) - 1 else None


def _as_asked(ends: Sequence[int], first: int, rooms: Sequence[int], shares: Sequence[float]) -> list[int] | None:
    """Entries by these shares, as llama.cpp lays them (`load_tensors`); None where they do not fit."""
    total, entries = sum(shares), len(ends) - 1 - first
    limits = [limit / total for limit in accumulate(shares)]
    counts = [0] * len(shares)
    for entry in range(entries):
        counts[min(bisect_right(limits, entry / entries), len(shares) - 1)] += 1
    stops = list(accumulate(counts, initial=first))
    fits = all(ends[stop] - ends[start] <= space for start, stop, space in zip(stops, stops[1:], rooms, strict=False))
    return counts if fits else None
