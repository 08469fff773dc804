"""Numbers as people read them."""

from __future__ import annotations

from uml.core.errors import gib


def size(count: object) -> str:
    """Bytes: `4.66 GiB`; nothing for what is not known."""
    return gib(count) if isinstance(count, int) and count > 0 else ""


def count(number: object) -> str:
    """A number: `8.03 B`, `5.2 M`, `2048`; nothing for what is not known."""
    if not isinstance(number, int) or isinstance(number, bool):
        return ""
    for unit, scale in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)


def plain(number: object) -> str:
    """A whole number; nothing for none."""
    return str(number) if number not in (None, "", 0) else ""


def seconds(time_s: object) -> str:
    """A duration: `0.4 s`, `3 min 20 s`, `2 h 5 min`."""
    if not isinstance(time_s, int | float):
        return ""
    if time_s < 60:
        return f"{time_s:.1f} s"
    minutes, rest = divmod(int(time_s), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
