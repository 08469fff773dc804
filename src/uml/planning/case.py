"""Case: one load that is to be decided, and what a machine has for it when others leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from uml.core.engine import Precaution
from uml.core.machine import Machine
from uml.core.model import Model, ModelInfo
from uml.core.options import LoadOptions
from uml.core.plan import Footprint
from uml.planning.batches import with_batches
from uml.planning.budget import Budget, room, within_budget
from uml.planning.estimate import estimate
from uml.planning.evict import Running
from uml.planning.fit import Fit, Fitter
from uml.planning.layers import Layers
from uml.planning.overrides import check_devices
from uml.planning.place import chosen_gpus
from uml.planning.precaution import known, safer
from uml.planning.refine import Known, refine
from uml.planning.resolve import chosen, settled
from uml.planning.runner import Runner


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be decided: one model with one engine, on a machine where others may be loaded.

    layers: how its weights lie, with what `options` moves. running, budget, companions, known, others: see `plan`.
    """

    model: Model
    layers: Layers
    options: LoadOptions
    runner: Runner
    running: tuple[Running, ...]
    budget: Budget | int | None
    companions: Mapping[str, ModelInfo]
    known: Known | None
    others: Sequence[Model]

    def after(self, gone: Sequence[str | Running]) -> Machine:
        """The machine with these models gone, and what is free capped by what the others were promised."""
        left = {one.model if isinstance(one, Running) else one for one in gone}
        freed = [one for one in self.running if one.model in left]
        stay = [one for one in self.running if one.model not in left]
        devices = {device.id: device for device in self.runner.machine.devices}
        back = {key: sum(one.on(key) for one in freed) for key in devices}
        # Mapped pages are free already by the system's count.
        back["cpu"] -= sum(min(one.mapped_bytes, one.on("cpu")) for one in freed)
        grown = {
            key: replace(device, free_bytes=min(device.total_bytes, device.free_bytes + back[key]))
            for key, device in devices.items()
        }
        had = self.runner.machine
        machine = replace(had, memory=grown["cpu"], gpus=tuple(grown[gpu.id] for gpu in had.gpus))
        return within_budget(machine, self.budget, {key: sum(one.on(key) for one in stay) for key in devices})

    def limit(self, free: int) -> str:
        """The setting for which no more than this is free once nobody is busy; empty where the machine has no more."""
        stay = [one for one in self.running if one.busy or one.pinned]
        taken = {device.id: sum(one.on(device.id) for one in stay) for device in self.runner.machine.devices}
        gone = [one for one in self.running if one not in stay]
        unbound = {device.id: room(device) for device in replace(self, budget=None).after(gone).devices}
        budget = self.budget if isinstance(self.budget, Budget) else Budget(self.budget)
        found = (budget.narrowest(one, taken[one.id]) for one in self.runner.machine.devices if unbound[one.id] > free)
        return next((name for name in found if name), "")

    @property
    def basis(self) -> LoadOptions:
        """The options with all decided that does not depend on memory. Raises BadOption."""
        found = settled(self.model.info, self.options, self.runner.machine, self.companions)
        found = safer(self.options, found, tuple(self.precautions))
        if "override_tensor" in self.runner.spec.options:
            check_devices(found, [gpu.id for gpu in chosen_gpus(self.runner.machine, self.options)])
        return found

    @property
    def precautions(self) -> Iterator[Precaution]:
        """What is known to be needed for the engine not to abort."""
        return known(self.model.info, self.options, self.runner)

    @property
    def fitter(self) -> Fitter:
        """Puts options of this model into their place."""
        batched = partial(with_batches, self.model.info, self.options)
        return Fitter(self.layers, self.runner.spec, self.runner.on_cpu, self.weigh, batched)

    def choose(self, machine: Machine, *, grow: bool) -> Fit | None:
        """What the options leave open, decided for this machine; see `planning.choose`."""
        return chosen(self.model.info, self.options, self.basis, machine, self.fitter, grow=grow)

    def weigh(self, options: LoadOptions) -> Footprint:
        """The footprint of resolved options."""
        found = estimate(self.model.info, options, self.runner.spec, companions=self.companions, amx=self.runner.amx)
        return refine(found, self.known(self.runner.spec.name, options)) if self.known else found
