"""What is free: looked at before a plan, and after an exit until it has come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from uml.core.machine import Machine

log = logging.getLogger(__name__)

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


class Gauge:
    """Looks at the machine in a thread, once for all who ask at the same time, and tells what it saw.

    tell: called on the event loop. A snapshot that raises is logged, and the last one told again.
    """

    def __init__(self, snapshot: Callable[[], Machine], tell: Callable[[Machine], None]) -> None:
        self._snapshot = snapshot
        self._tell = tell
        self._last: Machine | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._exits = 0

    @property
    def settling(self) -> bool:
        """Whether memory is coming back."""
        return self._settling is not None

    async def measure(self) -> None:
        """Have a fresh figure told before this returns; while memory is coming back, its own follows."""
        if self._settling is not None:
            return
        if self._measuring is None:
            self._measuring = asyncio.get_running_loop().create_task(self._measure())
        await asyncio.shield(self._measuring)

    def settle(self) -> None:
        """A process has gone: tell what is free once it has come back."""
        self._exits += 1
        if self._settling is None:
            self._settling = asyncio.get_running_loop().create_task(self._settle())

    async def close(self) -> None:
        """Wait for no memory any more. A look that is under way is let finish: a thread cannot be told to stop."""
        if self._settling is not None:
            self._settling.cancel()
        if under_way := {task for task in (self._measuring, self._settling) if task is not None}:
            await asyncio.wait(under_way)

    async def look(self) -> Machine:
        """The machine now. Raises what the snapshot raises only where there never was one."""
        try:
            self._last = await asyncio.to_thread(self._snapshot)
        except Exception:
            # Drivers raise what they like. With an old figure a load may go wrong; with none the queue stands.
            log.exception("the machine could not be measured")
            if self._last is None:
                raise
        return self._last

    async def _measure(self) -> None:
        machine = await self.look()
        self._measuring = None
        if self._settling is None:
            self._tell(machine)

    async def _settle(self) -> None:
        exits = -1
        while exits != self._exits:
            exits = self._exits
            machine = await settled(self.look)
        self._settling = None
        self._tell(machine)
