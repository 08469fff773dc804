"""Signs of work, and memory on its way back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.runtime.stand_in import machine
from uml.core.machine import Device, Machine
from uml.runtime.memory import Gauge, settled
from uml.runtime.workers.progress import Meter, Sample, look

MIB = 1 << 20


def test_a_look_at_this_process() -> None:
    sample = look(os.getpid())
    assert sample
    assert sample.cpu_s > 0
    assert sample.resident_bytes > 10 * MIB
    assert look(2**22 + 1) is None


def test_percent_never_falls_and_never_says_done() -> None:
    meter = Meter(100 * MIB, 0.0)
    seen = []
    for resident, read in ((10, 0), (60, 0), (30, 0), (30, 80), (500, 80)):
        meter.take(Sample(0.0, resident * MIB, read * MIB), 0, 1.0)
        seen.append(meter.percent)
    assert seen == [10.0, 60.0, 60.0, 80.0, 99.0]
    assert Meter(0, 0.0).percent == 0.0


@pytest.mark.parametrize(
    ("sample", "log_bytes", "works"),
    [
        (Sample(0.0, 0, 0), 0, False),
        (Sample(0.04, 0, 0), 0, False),  # it only answers our questions
        (Sample(0.5, 0, 0), 0, True),
        (Sample(0.0, MIB, 0), 0, True),
        (Sample(0.0, 0, MIB), 0, True),
        (Sample(0.0, 1000, 1000), 0, False),
        (Sample(0.0, 0, 0), 1, True),
    ],
)
def test_what_counts_as_work(sample: Sample, log_bytes: int, works: bool) -> None:
    meter = Meter(MIB, 0.0)
    meter.take(sample, log_bytes, 1.0)
    assert meter.quiet_s(1.5) == (0.5 if works else 1.5)


def test_what_a_worker_says_of_its_load_counts_and_never_falls() -> None:
    meter = Meter(1000, 0.0)
    meter.begin_after(200)
    meter.told(0.5)
    assert meter.bytes == 700
    meter.told(0.0)
    assert meter.bytes == 700
    meter.told(1.0)
    assert meter.percent == 99.0, "it serves when it serves"


def test_memory_that_swings_without_growing_is_no_work() -> None:
    meter = Meter(MIB, 0.0)
    for now, resident in enumerate((10, 5, 10, 5, 10)):
        meter.take(Sample(0.0, resident * MIB, 0), 0, float(now))
    assert meter.quiet_s(4.0) == 4.0


def with_gpu(free: int) -> Machine:
    gpu = Device("cuda:0", "cuda", "test", 1000 * MIB, free * MIB)
    base = machine(0)
    return Machine(base.system, base.architecture, "", 1, 1, frozenset(), base.memory, (gpu,))


async def seen(figures: Iterator[Machine], **limits: float) -> Machine:
    async def next_look() -> Machine:
        return next(figures)

    return await settled(next_look, **limits)


async def test_memory_of_a_gpu_is_waited_for_until_it_rises_no_more() -> None:
    figures = iter([with_gpu(free) for free in (10, 10, 300, 900, 900, 901, 902)])
    assert (await seen(figures, pause_s=0.001)).gpus[0].free_bytes == 901 * MIB
    assert next(figures).gpus[0].free_bytes == 902 * MIB


async def test_but_not_for_ever() -> None:
    figures = (with_gpu(free) for free in range(0, 100_000, 100))
    assert (await seen(figures, limit_s=0.01, pause_s=0.002)).gpus[0].free_bytes <= 600 * MIB


async def test_without_a_gpu_one_look_is_enough() -> None:
    figures = iter([machine(5), machine(9)])
    assert (await seen(figures)).memory.free_bytes == 5


async def test_a_snapshot_that_breaks_does_not_stop_the_queue() -> None:
    figures = iter([machine(5)])
    told: list[Machine] = []
    gauge = Gauge(lambda: next(figures, None) or 1 // 0, told.append)  # type: ignore[arg-type, return-value]
    assert await gauge.look() == machine(5)
    await gauge.measure()
    assert told == [machine(5)]
    with pytest.raises(ZeroDivisionError):
        await Gauge(lambda: 1 // 0, told.append).look()  # type: ignore[arg-type, return-value]
