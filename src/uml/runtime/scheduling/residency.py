"""A model with a worker, as the scheduler knows it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from uml.core.duration import duration_s
from uml.core.machine import Machine
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.evict import Running
from uml.runtime.scheduling.events import Asked, Kept, Weighed
from uml.runtime.scheduling.recipes import Recipe

PRELOADED_WEIGHT: Final = 10.0
"""A model that is to be there leaves only before one that was idle a tenth of its time."""


@dataclass(slots=True)
class Resident:
    """One worker.

    holders: granted tickets and the slots they take.
    used: the order of its last use; the lowest is the least recently used.
    started_s, idle_since_s: when it was started, and when its last request ended.
    load_s: what its load took.
    keep_alive_s: what a request or its options said; None: as the policy says.
    leaving: it was asked to unload while busy.
    counted: its memory was taken when the machine was last measured.
    weighed: what it really needs; None: what its plan says.
    """

    plan: LoadPlan
    recipe: Recipe
    started_s: float
    state: str = "starting"
    holders: dict[int, int] = field(default_factory=dict)
    used: int = 0
    idle_since_s: float = 0.0
    load_s: float = 0.0
    keep_alive_s: float | None = None
    leaving: bool = False
    counted: bool = False
    weighed: Weighed | None = None

    def __post_init__(self) -> None:
        if self.recipe.asked.keep_alive:
            self.keep_alive_s = duration_s(self.recipe.asked.keep_alive)

    @property
    def asked(self) -> LoadOptions:
        """The options it was asked for."""
        return self.recipe.asked

    @property
    def device_bytes(self) -> Mapping[str, int]:
        """What it needs on each device, as far as is known."""
        return self.weighed.device_bytes if self.weighed else self.plan.placement.device_bytes

    @property
    def idle(self) -> bool:
        """Ready, and nobody uses it."""
        return self.state == "ready" and not self.holders

    @property
    def free_slots(self) -> int:
        """Slots that nobody holds."""
        return self.plan.options.parallel - sum(self.holders.values())

    def serves(self, wanted: Asked) -> bool:
        """Whether it is loaded the way that a request wants."""
        loaded, options = self.plan.options, wanted.options
        if not all(getattr(loaded, flag) for flag in wanted.needs):
            return False
        if options is None or options == self.asked or options.loads_as(self.asked):
            return True
        return all(getattr(loaded, name) == getattr(options, name) for name in options.changed_for_engine())

    def take(self, wanted: Asked) -> None:
        """Note what a request that it now serves says about its stay."""
        if wanted.keep_alive_s is not None:
            self.keep_alive_s = wanted.keep_alive_s
        elif wanted.options is not None and wanted.options.keep_alive:
            self.keep_alive_s = duration_s(wanted.options.keep_alive)

    def expires_s(self, idle_unload_s: float, kept: Kept) -> float:
        """When it is unloaded for being idle; infinity while it is not idle, or is to be kept."""
        if not self.idle or kept:
            return math.inf
        return self.idle_since_s + (idle_unload_s if self.keep_alive_s is None else self.keep_alive_s)

    def running(self, now_s: float, kept: Kept, *, busy: bool) -> Running:
        """As planning sees it."""
        footprint, weighed = self.plan.footprint, self.weighed
        return Running(
            model=self.plan.model.id,
            bytes=sum(weighed.device_bytes.values()) if weighed else footprint.total_bytes,
            idle_order=self.used,
            busy=busy,
            pinned=kept == "pinned",
            device_bytes=self.device_bytes,
            mapped_bytes=weighed.mapped_bytes if weighed else footprint.mapped_bytes,
            idle_s=max(0.0, now_s - self.idle_since_s),
            load_s=self.load_s,
            weight=self.asked.keep_weight * (PRELOADED_WEIGHT if kept else 1.0),
        )


def spare(machine: Machine, residents: Iterable[Resident]) -> Machine:
    """The machine as measured, less what models that were loading then will take."""
    promised = [resident.device_bytes for resident in residents if not resident.counted]
    if not promised:
        return machine

    def less(device_id: str, free: int) -> int:
        return max(0, free - sum(device_bytes.get(device_id, 0) for device_bytes in promised))

    memory, gpus = machine.memory, machine.gpus
    return replace(
        machine,
        memory=replace(memory, free_bytes=less(memory.id, memory.free_bytes)),
        gpus=tuple(replace(gpu, free_bytes=less(gpu.id, gpu.free_bytes)) for gpu in gpus),
    )
