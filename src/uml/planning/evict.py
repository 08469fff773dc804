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
    mapped_bytes: of those in memory, pages of a mapped file, and what it is still to take. The system
        counts them as free already, so a model that leaves does not bring them back a second time.
    idle_s: seconds since it was used. load_s: seconds that it takes to come back.
    weight: how dear it is to its user; 1 is usual.
    """

    model: str
    bytes: int
    idle_order: int
    busy: bool = False
    pinned: bool = False
    device_bytes: Mapping[str, int] = field(default_factory=dict)
    mapped_bytes: int = 0
    idle_s: float = 0.0
    load_s: float = 0.0
    weight: float = 1.0

    def on(self, device: str) -> int:
        """Bytes on this device."""
        return self.device_bytes.get(device, 0) if self.device_bytes else self.bytes * (device == "cpu")

    @property
    def worth(self) -> float:
        """What is lost by letting it go: the load that it would take to come back, by how soon that is likely.

        A model that was idle for t seconds is wanted again in about t more; `GreedyDual` caches (Young
        1994; Cao and Irani 1997) weigh the cost of a miss against that in the same way. The second that
        is added to both keeps a model that was used this moment, or that loads at once, comparable.
        """
        return self.weight * (1.0 + self.load_s) / (1.0 + self.idle_s)


def evict(needed_bytes: int, free_bytes: int, running: Sequence[Running]) -> tuple[str, ...] | None:
    """The idle models that must leave until `needed_bytes` are free: those of the least worth, and none in vain.

    Empty when it fits already, None when it would not even with all idle models gone.
    """
    return leaving(running, lambda gone: free_bytes + sum(one.bytes for one in gone) >= needed_bytes)


def leaving(running: Sequence[Running], enough: Callable[[Sequence[Running]], bool]) -> tuple[str, ...] | None:
    """The same for any idea of enough, which must not turn false when more models leave.

    Those of the least worth leave until it is enough, of equal ones the least recently used; then those
    stay after all without which it is enough as well, the most worth first.
    """
    idle = sorted(
        (one for one in running if not one.busy and not one.pinned),
        key=lambda one: (one.worth, one.idle_order, one.model),
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
