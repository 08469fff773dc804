"""Waiting for memory to come back after a process has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from uml.core.machine import Machine

LIMIT_S: Final = 2.0
PAUSE_S: Final = 0.1
RISE_BYTES: Final = 16 << 20
"""A rise of free memory that still counts as the driver giving back."""


async def settled(
    look: Callable[[], Awaitable[Machine]], limit_s: float = LIMIT_S, pause_s: float = PAUSE_S
) -> Machine:
    """The machine once free memory has stopped rising for two looks, or `limit_s` is over.

    A GPU's driver gives memory back a moment after the process is gone: a look at once would count
    it as used, and evict a second model for nothing. The system's own memory is back before the
    exit is told, so that a machine without GPUs is looked at once.
    """
    machine = await look()
    quiet = 0
    while machine.gpus and quiet < 2 and limit_s > 0:
        await asyncio.sleep(pause_s)
        limit_s -= pause_s
        before = {device.id: device.free_bytes for device in machine.gpus}
        machine = await look()
        rising = any(device.free_bytes > before.get(device.id, 0) + RISE_BYTES for device in machine.gpus)
        quiet = 0 if rising else quiet + 1
    return machine
