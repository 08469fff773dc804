"""Three models at once, sixteen clients spread over them: nothing may fail, and no model may be lost.

python -m benchmarks.soak [SECONDS]            300 by default
python -m benchmarks.soak [SECONDS] --tight    with room for two of them, so that they take turns
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import orjson

from benchmarks.common import CHAT, folder, percentile, table
from uml.config import Settings
from uml.core.errors import UmlError
from uml.core.model import Model
from uml.house import House
from uml.registry import packaged_model
from uml.runtime.observer import Unobserved

MODELS = 3
CLIENTS = 16
OPTIONS = {"ctx": 1024, "parallel": 4, "threads": 1}


class Deaths(Unobserved):
    """Counts what must not happen, and what may."""

    def __init__(self) -> None:
        self.stops: Counter[str] = Counter()
        self.exits = 0

    def worker_stopping(self, model: str, engine: str, reason: str) -> None:
        """A worker is told to go."""
        self.stops[reason] += 1

    def worker_exited(self, model: str, engine: str, exit_code: int | None) -> None:
        """The process is gone."""
        self.exits += 1


class Soak:
    """Clients that ask at random until it is time."""

    def __init__(self, house: House, models: list[Model]) -> None:
        self.house, self.models = house, models
        self.waits: list[float] = []
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.highest = 0

    async def client(self, seed: int, until_s: float) -> None:
        """One after the other."""
        dice = random.Random(seed)
        while time.monotonic() < until_s:
            model = dice.choice(self.models)
            body = {"stream": True, "max_tokens": dice.randint(1, 48), "messages": [{"role": "user", "content": "hi"}]}
            try:
                async with self.house.supervisor.lease(model) as lease:
                    self.waits.append(lease.waited_s)
                    async with await lease.channel.request("POST", CHAT, orjson.dumps(body), stream=True) as response:
                        if response.status != 200:
                            raise RuntimeError(f"status {response.status}")
                        async for _ in response:
                            pass
                self.answers[model.id] += 1
            except (UmlError, RuntimeError, OSError) as error:
                self.errors[type(error).__name__] += 1

    async def look(self, until_s: float) -> None:
        """The most memory that was held at one time."""
        while time.monotonic() < until_s:
            held = sum(status.memory_bytes for status in self.house.supervisor.status())
            self.highest = max(self.highest, held)
            await asyncio.sleep(1.0)


async def main(seconds: float, tight: bool) -> int:
    """Run and print; 1 when something failed."""
    with folder() as data:
        paths = []
        (data / "models").mkdir()
        for index in range(MODELS):
            paths.append(data / "models" / f"model-{index}.gguf")
            shutil.copyfile(packaged_model(), paths[-1])
        budget = await _budget(data, paths[0], MODELS - 1 if tight else MODELS)
        deaths = Deaths()
        flags = {"data": str(data), "options": OPTIONS, "memory_budget": budget}
        async with House.open(Settings.load(flags, os.environ), deaths) as house:
            soak = Soak(house, [house.library.find(str(path)) for path in paths])
            until_s = time.monotonic() + seconds
            await asyncio.gather(soak.look(until_s), *(soak.client(seed, until_s) for seed in range(CLIENTS)))
            there = [status.model for status in house.supervisor.status() if status.state == "ready"]
        lost = deaths.exits - sum(deaths.stops.values()) - len(there)
    total = sum(soak.answers.values())
    rows = [
        ["answers", f"{total} ({', '.join(str(count) for count in sorted(soak.answers.values()))} by model)"],
        ["errors", ", ".join(f"{count} {name}" for name, count in soak.errors.items()) or "none"],
        ["models loaded at the end", f"{len(there)}"],
        ["workers that ended unasked", f"{lost}"],
        ["evictions", f"{deaths.stops['evicted']}"],
        ["wait for a slot or a load, median and 99 %", f"{percentile(soak.waits, 0.5) * 1000:.0f} ms, "
         f"{percentile(soak.waits, 0.99) * 1000:.0f} ms"],
        ["memory of all workers, at most; budget", f"{soak.highest >> 20} MiB; {budget >> 20} MiB"],
    ]  # fmt: skip
    table(
        f"{MODELS} models, {CLIENTS} clients, {seconds:.0f} s{', room for one less' if tight else ''}", ["", ""], rows
    )
    return int(bool(soak.errors) or lost != 0 or soak.highest > budget)


async def _budget(data: Path, path: Path, models: int) -> int:
    """Room for so many of them, and a half."""
    async with House.open(Settings.load({"data": str(data), "options": OPTIONS}, os.environ)) as house:
        status = await house.supervisor.load(house.library.find(str(path)))
    return status.estimated_bytes * (2 * models + 1) // 2


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if argument != "--tight"]
    sys.exit(asyncio.run(main(float(given[0]) if given else 300.0, "--tight" in sys.argv[1:])))
