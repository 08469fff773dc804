"""Fitter(machine, options) -> Fit | None: resolved options, weighed and put into their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from uml.core.engine import EngineSpec
from uml.core.machine import Machine
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, Placement
from uml.planning.budget import room
from uml.planning.layers import Layers
from uml.planning.place import place, quality


@dataclass(frozen=True, slots=True)
class Fit:
    """Options with their footprint in its place."""

    options: LoadOptions
    footprint: Footprint
    placement: Placement

    @property
    def quality(self) -> tuple[int, int]:
        """How good the place is: layers on GPUs, then experts that are not in memory."""
        return quality(self.placement)

    @property
    def tier(self) -> int:
        """3: whole on GPUs; 2: but for experts; 1: some layers; 0: in memory."""
        on, experts = self.quality
        if on and on >= self.placement.layers:
            return 3 if not experts else 2
        return 1 if on else 0


@dataclass(frozen=True, slots=True)
class Fitter:
    """A model with an engine, as far as it must be known to place it.

    weigh: the footprint of resolved options. on_cpu: whether the engine can compute in memory here.
    batched: options with batches that suit their place.
    """

    layers: Layers
    spec: EngineSpec
    on_cpu: bool
    weigh: Callable[[LoadOptions], Footprint]
    batched: Callable[[LoadOptions], LoadOptions]

    def __call__(self, machine: Machine, options: LoadOptions) -> Fit | None:
        """Resolved options in their place on this machine, with the place written into them; None without room."""
        footprint = self.weigh(options)
        placement = place(footprint, machine, options, self.layers, split=self.spec.split, on_cpu=self.on_cpu)
        if placement is None:
            return None
        on = [gpu.id for gpu in machine.gpus if gpu.id in placement.device_bytes]
        if not on:
            if options.device == "cpu" and options.cpu_moe_layers >= 0:
                return Fit(options, footprint, placement)
            # On the processor weights may be copied, which no GPU does: weigh once more.
            experts = max(0, options.cpu_moe_layers)
            return self(machine, self.batched(replace(options, device="cpu", gpu_layers=0, cpu_moe_layers=experts)))
        decided = _written(options, placement, on)
        exact = self.weigh(decided)
        more = max(0, exact.total_bytes - footprint.total_bytes)
        beside = placement.device_bytes["cpu"] + more
        if more and beside > room(machine.memory):
            return None
        return Fit(decided, exact, replace(placement, device_bytes={**placement.device_bytes, "cpu": beside}))


def _written(options: LoadOptions, placement: Placement, on: list[str]) -> LoadOptions:
    """The options with the place in them."""
    named = [id for id in placement.device_bytes if id in on]
    shares = [float(count) for count in placement.gpu_split]
    if shares:
        # llama.cpp counts the output as a layer, the last; a GPU without layers has only what was put there.
        shares[max(place for place, count in enumerate(shares) if count)] += 1
    return replace(
        options,
        device=",".join(named),
        # All is more than the model's layers to some engines: the output counts as one.
        gpu_layers=placement.gpu_layers if placement.gpu_layers < placement.layers else options.gpu_layers,
        tensor_split=tuple(shares),
        main_gpu=0,
        cpu_moe_layers=options.cpu_moe_layers if options.cpu_moe_layers >= 0 else placement.expert_layers,
    )
