"""What the machine has: `snapshot() -> Machine`."""

from uml.hardware.gpus import gpu_use
from uml.hardware.snapshot import snapshot

__all__ = ["gpu_use", "snapshot"]
