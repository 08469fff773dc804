"""Workers that have given their GPUs back, and stay with their weights in main memory.

What they hold there is like what the system keeps of files that were read: free for whoever needs it. So nobody plans
around them; the longest asleep end when the memory of a load is not free otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from uml.core.engine import Ask, Engine, Sleeps
from uml.core.machine import Device, Machine
from uml.core.plan import LoadPlan
from uml.planning.budget import room
from uml.runtime.attended import Attended
from uml.runtime.taken import look_at_all
from uml.runtime.workers.family import family

log = logging.getLogger(__name__)

SLEEP_LIMIT_S: Final = 30.0
"""For the way out of the GPUs: a copy of the weights, at some GB a second."""
ASLEEP_S: Final = 1800.0
"""After so long a sleeper ends: nobody seems to come back to it."""

Use = Callable[[int], Mapping[str, int]]
"""Bytes that a process holds on each GPU."""


@dataclass(slots=True, eq=False)
class _Bed:
    """One that sleeps. held: its bytes, by device. timer: its end."""

    worker: Attended
    held: Mapping[str, int]
    timer: asyncio.TimerHandle


class Dormitory:
    """Belongs to a workforce, on its event loop.

    limit: bytes of a device that models may take together; None where nobody set a limit.
    """

    def __init__(self, limit: Callable[[Device], int | None], gpu_use: Use) -> None:
        self._limit = limit
        self._gpu_use = gpu_use
        self._beds: dict[str, _Bed] = {}
        self._leaving: list[_Bed] = []
        self._machine: Machine | None = None

    @property
    def workers(self) -> tuple[Attended, ...]:
        """Who sleeps, the longest asleep first."""
        return tuple(bed.worker for bed in self._beds.values())

    def counted(self, machine: Machine) -> Machine:
        """A machine that was looked at, with what sleepers hold as free."""
        self._machine = machine

        def free(device: Device) -> Device:
            back = self._held(device.id, *self._beds.values(), *self._leaving)
            return replace(device, free_bytes=min(device.total_bytes, device.free_bytes + back)) if back else device

        return replace(machine, memory=free(machine.memory), gpus=tuple(map(free, machine.gpus)))

    def takes(self, worker: Attended, engine: Engine, awake: Mapping[str, int]) -> bool:
        """Whether a worker can sleep and its weights have room here; those longest asleep end for it.

        awake: bytes promised to all who are awake, by device.
        """
        plan = worker.plan
        if not (isinstance(engine, Sleeps) and plan.options.sleep and engine.can_sleep(plan)):
            return False
        wanted = {"cpu": plan.footprint.weight_bytes}
        self._end_for(wanted, awake)
        return self._machine is not None and not self._short(wanted, awake)

    async def lay(self, worker: Attended, engine: Engine, ask: Ask) -> bool:
        """Have a worker that `takes` took go to sleep. False where it would not."""
        assert isinstance(engine, Sleeps)
        try:
            async with asyncio.timeout(SLEEP_LIMIT_S):
                await engine.sleep(ask)
            held = await asyncio.to_thread(self._measured, worker.process.pid)
        except Exception as error:
            # Engines are plug-ins: whatever goes wrong in one, its memory is to be free.
            log.warning("%s is ended, for it would not sleep: %r", worker.plan.model.id, error)
            return False
        if worker.ending is not None:
            return False
        model = worker.plan.model.id
        timer = asyncio.get_running_loop().call_later(ASLEEP_S, self.end, model)
        self._beds[model] = _Bed(worker, held, timer)
        return True

    def waken(self, plan: LoadPlan) -> Attended | None:
        """Take the one out that sleeps and was started as this plan says; another of its model ends."""
        bed = self._beds.get(plan.model.id)
        if bed is None or not _alike(bed.worker.plan, plan):
            self.end(plan.model.id)
            return None
        del self._beds[plan.model.id]
        bed.timer.cancel()
        return bed.worker

    def give_way(self, wanted: Mapping[str, int], awake: Mapping[str, int]) -> tuple[Attended, ...]:
        """End as many as it takes for a load; returns all whose end it has to wait for."""
        self._end_for(wanted, awake)
        return tuple(bed.worker for bed in self._leaving)

    def end(self, model: str) -> Attended | None:
        """End the worker of a model, where it sleeps."""
        bed = self._beds.pop(model, None)
        if bed is None:
            return None
        bed.timer.cancel()
        self._leaving.append(bed)
        bed.worker.told = True
        bed.worker.process.stop()
        return bed.worker

    def gone(self, worker: Attended) -> bool:
        """Its process has ended; returns whether it was one of these."""
        for bed in (*self._beds.values(), *self._leaving):
            if bed.worker is worker:
                bed.timer.cancel()
                self._beds = {model: other for model, other in self._beds.items() if other is not bed}
                self._leaving = [other for other in self._leaving if other is not bed]
                return True
        return False

    def _end_for(self, wanted: Mapping[str, int], awake: Mapping[str, int]) -> None:
        for model, bed in tuple(self._beds.items()):
            # One that holds nothing of what is short need not go for it.
            if any(bed.held.get(device) for device in self._short(wanted, awake)):
                self.end(model)

    def _short(self, wanted: Mapping[str, int], awake: Mapping[str, int]) -> set[str]:
        """Devices on which so much is not free beside those who sleep, or is more than models may take."""
        found = set()
        for device in self._machine.devices if self._machine else ():
            free = room(device) + self._held(device.id, *self._leaving)
            limit = self._limit(device)
            if limit is not None:
                free = min(free, limit - awake.get(device.id, 0) - self._held(device.id, *self._beds.values()))
            if wanted.get(device.id, 0) > free:
                found.add(device.id)
        return found

    def _measured(self, pid: int | None) -> dict[str, int]:
        seen = look_at_all(pid) if pid else None
        held = {"cpu": seen.resident_bytes if seen else 0}
        for member in family(pid) if pid else ():
            for device, count in self._gpu_use(member).items():
                held[device] = held.get(device, 0) + count
        return held

    @staticmethod
    def _held(device: str, *beds: _Bed) -> int:
        return sum(bed.held.get(device, 0) for bed in beds)


def _alike(one: LoadPlan, other: LoadPlan) -> bool:
    """Whether a worker of one plan is what the other wants."""
    return (
        one.model.info == other.model.info
        and one.engine == other.engine
        and one.options == other.options
        and one.placement.device_bytes.keys() == other.placement.device_bytes.keys()
    )
