"""What a swap costs over the engine's own start: one model leaves, another serves in its place.

python -m benchmarks.swap
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.common import folder, interleaved, median, table, worker
from uml.config import Settings
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.hardware import snapshot
from uml.house import Library
from uml.planning.evict import Running
from uml.registry import packaged_model
from uml.runtime.scheduling.policy import Policy
from uml.runtime.supervisor import Supervisor

ROUNDS = 7
OPTIONS = {"ctx": 1024, "parallel": 1, "warmup": False}


async def swaps(data: Path, engine: str) -> tuple[list[float], list[float]]:
    """Seconds of a worker's start by itself, and, in turn, from asking for a model that does not fit to its lease."""
    names = ("first", "second")
    (data / "models").mkdir()
    for name in names:
        shutil.copyfile(packaged_model(), data / "models" / f"{name}.gguf")
    library = Library.open(Settings.load({"data": str(data), "options": {**OPTIONS, "engine": engine}}, os.environ))

    def room_for_one(
        model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running], wants: Sequence[str] = ()
    ) -> LoadPlan:
        decided = library.plan(model, options, machine, wants=wants)
        return replace(decided, evict=tuple(one.model for one in running if not one.busy))

    turn = itertools.count(1)
    async with Supervisor(
        engines=library.engines,
        planner=room_for_one,
        defaults=library.defaults,
        runtime_folder=library.settings.runtime,
        log_folder=data / "logs",
        snapshot=snapshot,
        load_timeout_s=60.0,
        policy=Policy(turn_s=0.0),
    ) as supervisor:
        wanted = [library.find(str(data / "models" / f"{name}.gguf")) for name in names]
        await supervisor.load(wanted[0])

        async def alone() -> float:
            async with worker("demo", {**OPTIONS, "engine": engine}) as (_, ready_s):
                return ready_s

        async def swapped() -> float:
            began = time.perf_counter()
            async with supervisor.lease(wanted[next(turn) % 2]):
                seconds = time.perf_counter() - began
            assert len(supervisor.status()) == 1
            return seconds

        return await interleaved(ROUNDS, alone, swapped)


async def main() -> None:
    """Run and print."""
    rows = []
    for engine in ("llamacpp", "fake"):
        with folder() as data:
            alone, swapped = await swaps(data, engine)
        over_ms = 1000 * (median(swapped) - median(alone))
        rows.append([engine, f"{median(alone):.3f} s", f"{median(swapped):.3f} s", f"{over_ms:+.0f} ms", "+200 ms"])
    table(
        f"Evict and load, over the engine's own start (demo model, median of {ROUNDS})",
        ["engine", "start alone", "swap", "over", "goal"],
        rows,
    )


if __name__ == "__main__":
    asyncio.run(main())
