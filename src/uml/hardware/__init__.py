"""What the machine has: `snapshot() -> Machine`."""

from uml.hardware.snapshot import snapshot

__all__ = ["snapshot"]
