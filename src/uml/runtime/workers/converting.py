"""Before a worker is planned: its model is made into a format that the engine reads, in a process of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from uml.core.errors import LoadTimeout
from uml.core.plan import LoadPlan
from uml.runtime.conversions.packing import Confine
from uml.runtime.conversions.workshop import Making
from uml.runtime.workers.progress import Meter

BEAT_S: Final = 0.5


class Converter(Protocol):
    """Sees to it that the file of `plan.conversion` is there."""

    def __call__(
        self, plan: LoadPlan, tell: Callable[[Making], None], cancelled: Callable[[], bool], confine: Confine
    ) -> None:
        """In a thread; returns when the file is there. Raises an UmlError when it is not; nothing is left then.

        tell: called on that thread. cancelled: asked a few times a second; Cancelled is raised soon after.
        confine: how a process is kept in that works on the model's file.
        """
        ...


async def convert_first(
    plan: LoadPlan,
    converter: Converter,
    meter: Meter,
    told: asyncio.Event,
    stall_limit_s: float,
    confine: Confine = lambda launch: launch,
) -> None:
    """Have the file made, unless it is there. Raises what the converter does, LoadTimeout where it stands still.

    told: it is not wanted any more. However this ends, the process that makes the file does too.
    """
    unwanted = threading.Event()

    def tell(making: Making) -> None:
        meter.prepared(making.percent, time.monotonic())

    work = asyncio.ensure_future(asyncio.to_thread(converter, plan, tell, unwanted.is_set, confine))
    stop = asyncio.ensure_future(told.wait())
    try:
        while not work.done():
            await asyncio.wait({work, stop}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if told.is_set():
                unwanted.set()
                await asyncio.wait({work})
            quiet_s = meter.quiet_s(time.monotonic())
            if quiet_s > stall_limit_s and not work.done():
                unwanted.set()
                await asyncio.wait({work})
                raise LoadTimeout(
                    plan.model.id,
                    f"its conversion to GGUF stood still for {quiet_s:.0f} s; a larger load_timeout_s waits longer",
                    quiet_s=round(quiet_s, 1),
                )
        await work
    finally:
        stop.cancel()
        unwanted.set()
        if work.done() and not work.cancelled():
            work.exception()  # has been seen
