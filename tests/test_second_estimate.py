"""A load teaches the next estimate: the demo model, really loaded by llama.cpp, weighed and asked for again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.waiting import until
from uml.config import Settings
from uml.core.options import LoadOptions
from uml.core.plan import WorkerStatus
from uml.house import House
from uml.runtime.observer import Unobserved

OPTIONS = {"ctx": 2048, "parallel": 2, "threads": 1}
MIB = 1 << 20


class Counted(Unobserved):
    """What was told of memory."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def worker_measured(self, model: str, engine: str, method: str, predicted_bytes: int, measured_bytes: int) -> None:
        self.seen.append((method, predicted_bytes, measured_bytes))


@pytest.mark.slow  # three loads by the real engine
async def test_a_second_estimate_is_what_the_first_load_took(tmp_path: Path) -> None:
    settings = Settings.load({"data": str(tmp_path / "data")}, {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    counted = Counted()
    async with House.open(settings, counted) as house:
        demo = house.library.registry.resolve("demo")

        async def weighed(**options: int) -> WorkerStatus:
            before = len(counted.seen)
            await house.supervisor.load(demo, LoadOptions.parse({**OPTIONS, **options}))
            await until(lambda: len(counted.seen) > before)
            # A second look at the table of workers is the one with the measured figure.
            status = house.worker("demo")
            assert status is not None
            return status

        assert house.library.estimate("demo", OPTIONS)["method"] != "measured"
        first = await weighed()
        assert first.measured_bytes > 20 * MIB and first.peak_bytes > 20 * MIB
        await house.supervisor.unload()

        again = house.library.estimate("demo", OPTIONS)
        assert again["method"] == "measured" and again["source"]
        assert again["total"]["likely"] == first.measured_bytes
        assert again["parts"]["kv_cache"] == 12 * MIB, "6 layers, 2 slots of 2048 cells, 2 heads of 64 at 2 bytes twice"
        nearby = house.library.estimate("demo", {**OPTIONS, "ctx": 1024})
        assert nearby["method"] == "corrected"

        second = await weighed()
        assert second.method == "measured"
        assert second.estimated_bytes == pytest.approx(second.measured_bytes, rel=0.02)
        await house.supervisor.unload()
        third = await weighed(ctx=1024)
        assert third.method == "corrected"
        assert third.estimated_bytes == pytest.approx(third.measured_bytes, rel=0.05)
        assert nearby["total"]["low"] <= third.measured_bytes <= nearby["total"]["high"]
