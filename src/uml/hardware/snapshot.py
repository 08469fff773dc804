"""snapshot() -> Machine: the processor, memory and accelerators, as this process may use them now."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from uml.core.machine import Device, Machine
from uml.hardware.cgroup import memory_limits
from uml.hardware.gpus import gpus, metal
from uml.hardware.processor import processor


def snapshot(
    root: Path = Path("/"), environ: Mapping[str, str] | None = None, system: str = "", architecture: str = ""
) -> Machine:
    """What the machine has at this moment. Never raises: what cannot be read is left out.

    Memory is the least of the hardware's and of every control group's limit on the way up.
    Takes a few milliseconds, and as long as NVIDIA's driver takes to answer where there is one.

    root: the folder in which `proc` and `sys` lie; environ: PATH and the variables that hide GPUs;
    system, architecture: as `platform` names them.
    """
    environ = os.environ if environ is None else environ
    system = system or platform.system()
    architecture = architecture or platform.machine()
    chip = processor(root, system)
    own, limits = _memory(root)
    cards = gpus(root, environ)
    if system == "Darwin" and (apple := metal(own, architecture)):
        cards = (*cards, apple)
    return Machine(
        system=system,
        architecture=architecture,
        processor=chip.name,
        cores=chip.cores,
        threads=chip.threads,
        instructions=chip.instructions,
        memory=own,
        gpus=cards,
        limits=(*limits, *chip.limits),
    )


def memory(root: Path = Path("/")) -> Device:
    """The machine's own memory, as in `snapshot`; asked for alone it takes no driver's time."""
    return _memory(root)[0]


def _memory(root: Path) -> tuple[Device, tuple[str, ...]]:
    import psutil  # here, so that who only asks for the name of this room does not wait for it

    real = psutil.virtual_memory()
    total, free, reasons = int(real.total), int(real.available), []
    for limit in memory_limits(root):
        if limit.total_bytes < real.total:
            reasons.append(limit.reason)
        total, free = min(total, limit.total_bytes), min(free, limit.free_bytes)
    return Device("cpu", "cpu", "memory", total, free), tuple(reasons)
