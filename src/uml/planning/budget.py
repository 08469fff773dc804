"""within_budget(machine, budget, taken) -> Machine: only as much free as is safe to hand out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from uml.core.machine import Device, Machine

_MIB: Final = 1 << 20
CPU_MARGIN_BYTES: Final = 256 * _MIB
GPU_MARGIN_BYTES: Final = 1024 * _MIB
"""What llama.cpp's own fit leaves on each GPU: the driver's context, its kernels, fragments."""
EVERY_GPU: Final = "*"


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that all models together may take: an int is bytes, a float a share of the device, None no limit.

    memory: of the machine's own memory, and of GPUs that are a part of it.
    gpus: by device id (`cuda:0`); under `*` for every GPU that is not named.
    worker: of the machine's own memory, what any one model may take.
    """

    memory: int | float | None = None
    gpus: Mapping[str, int | float] = field(default_factory=dict)
    worker: int | float | None = None

    def of(self, device: Device) -> int | None:
        """Bytes of this device that models may take together; None where nobody set a limit."""
        named = self.gpus.get(device.id, self.gpus.get(EVERY_GPU)) if device.kind != "cpu" else None
        limits = [_bytes(named, device)]
        if device.kind in ("cpu", "metal"):
            limits.append(_bytes(self.memory, device))
        return min((limit for limit in limits if limit is not None), default=None)

    def of_one(self, device: Device) -> int | None:
        """Bytes of this device that one model may take; None where nobody set a limit."""
        return _bytes(self.worker, device) if device.kind in ("cpu", "metal") else None

    def narrowest(self, device: Device, taken: int) -> str:
        """The setting that leaves least of this device to the next model; empty for none. taken: bytes handed out."""
        together = "memory_budget" if device.kind == "cpu" else "gpu_budget"
        whole, one = self.of(device), self.of_one(device)
        left = [(max(0, whole - taken), together)] if whole is not None else []
        left += [(one, "worker_memory")] if one is not None else []
        return min(left, default=(0, ""))[1]


def _bytes(limit: float | None, device: Device) -> int | None:
    """A share is of what this process may use at all: inside of a container that is the container's limit."""
    return int(limit * device.total_bytes) if isinstance(limit, float) else limit


def margin(device: Device) -> int:
    """Bytes that stay free whatever is placed: at most a sixteenth of the memory, an eighth of a GPU."""
    if device.kind == "cpu":
        return min(CPU_MARGIN_BYTES, device.total_bytes // 16)
    return min(GPU_MARGIN_BYTES, device.total_bytes // 8)


def room(device: Device) -> int:
    """Bytes that a model may take of this device."""
    return max(0, device.free_bytes - margin(device))


def within_budget(machine: Machine, budget: Budget | int | None, taken: Mapping[str, int]) -> Machine:
    """The machine with only as much free as is safe to hand out: min(reported, total - taken, budget - taken).

    A report may lag behind what was promised, and counts pages of mapped files as free; what other programs
    use is missing from it. taken: bytes handed out, by device. budget: as a number, bytes of memory.
    """
    limits = budget if isinstance(budget, Budget) else Budget(budget)

    def capped(device: Device) -> Device:
        used = taken.get(device.id, 0)
        free = min(device.free_bytes, device.total_bytes - used)
        limit = limits.of(device)
        if limit is not None:
            # A budget is meant to the byte; the margin is for what a report does not know.
            free = min(free, limit - used + margin(device))
        if (most := limits.of_one(device)) is not None:
            free = min(free, most + margin(device))
        return replace(device, free_bytes=max(0, free))

    return replace(machine, memory=capped(machine.memory), gpus=tuple(capped(gpu) for gpu in machine.gpus))
