"""What all work at the workbench has in common: who hears of it, who stops it, and on how many cores it goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from uml.runtime.conversions.workshop import Making

Tell = Callable[[dict[str, Any]], None]
"""Hears of `progress` (of what, text, percent), of a `warning` (text), and of each model that is `made`."""
Cancelled = Callable[[], bool]


def progress(tell: Tell, what: str) -> Callable[[Making], None]:
    """Who hears how far one piece of work is."""
    return lambda making: tell({"event": "progress", "of": what, "text": making.text, "percent": making.percent})


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
