"""Which idle models leave so that another fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Running:
    """A loaded model, as far as making room is concerned.

    bytes: what it takes, on all devices together.
    idle_order: the lower, the longer ago it was used; any numbers that compare will do.
    busy: it serves a request, or loads; it is never chosen. pinned: somebody wants it to stay.
    device_bytes: `bytes` by device; empty means all in memory.
    mapped_bytes: of those in memory, pages of a mapped file. The system counts them as free
        already, so a model that leaves does not bring them back a second time.
    """

    model: str
    bytes: int
    idle_order: int
    busy: bool = False
    pinned: bool = False
    device_bytes: Mapping[str, int] = field(default_factory=dict)
    mapped_bytes: int = 0

    def on(self, device: str) -> int:
        """Bytes on this device."""
        return self.device_bytes.get(device, 0) if self.device_bytes else self.bytes * (device == "cpu")


def evict(needed_bytes: int, free_bytes: int, running: Sequence[Running]) -> tuple[str, ...] | None:
    """The idle models that must leave until `needed_bytes` are free: the least recently used, and none in vain.

    Empty when it fits already, None when it would not even with all idle models gone.
    """
    return leaving(running, lambda gone: free_bytes + sum(one.bytes for one in gone) >= needed_bytes)


def leaving(running: Sequence[Running], enough: Callable[[Sequence[Running]], bool]) -> tuple[str, ...] | None:
    """The same for any idea of enough, which must not turn false when more models leave.

    The least recently used leave until it is enough; then those stay after all without which it is
    enough as well, the most recently used first.
    """
    idle = sorted(
        (one for one in running if not one.busy and not one.pinned), key=lambda one: (one.idle_order, one.model)
    )
    count = next((count for count in range(len(idle) + 1) if enough(idle[:count])), None)
    if count is None:
        return None
    gone = idle[:count]
    for one in reversed(gone.copy()):
        rest = [other for other in gone if other is not one]
        if enough(rest):
            gone = rest
    return tuple(one.model for one in gone)
