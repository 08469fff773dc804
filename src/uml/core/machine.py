"""What the machine has, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Device:
    """A place that holds weights.

    id: `cpu`, `cuda:0`, ...; kind: its family.
    total_bytes, free_bytes: as seen by this process: cgroup limits and other programs counted.
    """

    id: str
    kind: Literal["cpu", "cuda", "rocm", "metal", "vulkan"]
    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """A snapshot: processor, memory, accelerators."""

    system: str
    """`Linux`, `Darwin`, `Windows`."""
    architecture: str
    processor: str
    cores: int
    """Physical cores this process may use."""
    threads: int
    instructions: frozenset[str]
    """Instruction sets as the kernel names them, of those that matter here: `avx2`, `avx512f`, `amx_int8`."""
    memory: Device
    gpus: tuple[Device, ...] = ()
    limits: tuple[str, ...] = ()
    """What makes the figures smaller than the hardware: `cgroup memory.max 8.00 GiB`."""

    @property
    def devices(self) -> tuple[Device, ...]:
        """GPUs first, then memory: the order in which places are tried."""
        return (*self.gpus, self.memory)
