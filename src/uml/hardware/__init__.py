"""What the machine has: `snapshot() -> Machine`."""

from uml.hardware.gpus import gpu_use
from uml.hardware.snapshot import memory, snapshot

__all__ = ["gpu_use", "memory", "snapshot"]
