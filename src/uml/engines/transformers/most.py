"""`max_memory`: how much of the weights may lie on which device. Read before a worker is started, and by it."""

from __future__ import annotations

from typing import Final

from uml.core.errors import BadOption

_GIB: Final = 1 << 30
_MOST_GIB: Final = 1 << 20


def limits(texts: tuple[str, ...]) -> dict[int | str, int]:
    """`DEVICE=GIB` as the library's `max_memory`, in bytes. Raises BadOption."""
    found: dict[int | str, int] = {}
    for text in texts:
        device, _, amount = text.partition("=")
        try:
            size = float(amount.strip().lower().removesuffix("gib"))
        except ValueError:
            size = -1.0
        # Neither nan nor an infinite amount is between them.
        if not device.strip() or not 0 <= size <= _MOST_GIB:
            raise BadOption("max_memory", text, f"DEVICE=GIB of 0 to {_MOST_GIB} GiB, such as cpu=4 or 0=10.5")
        found[name_of(device.strip())] = int(size * _GIB)
    return found


def name_of(device: str) -> int | str:
    """A device as the library's `max_memory` calls it: `cpu`, or the number of a GPU."""
    _, _, number = device.rpartition(":")
    return int(number) if number.isdigit() else device
