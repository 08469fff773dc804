"""What a worker really took: the sums, and real processes on the scales."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.stand_in import DEMO, bench, flags, machine, plan
from tests.waiting import until
from uml.core.errors import SetupError
from uml.core.options import LoadOptions
from uml.core.plan import Buffer, Footprint, LoadPlan, Placement, Taken
from uml.engines.fake import Fake
from uml.planning.refine import Figures, refine
from uml.runtime.observer import Unobserved
from uml.runtime.scheduling.events import Asked
from uml.runtime.taken import Weighing, figures, file_bytes, look, total_bytes
from uml.runtime.workers.logs import WorkerLog

MIB = 1 << 20


def planned(footprint: Footprint, **options: object) -> LoadPlan:
    made = plan(DEMO, LoadOptions.parse(options), machine(1 << 40), ())
    return replace(made, footprint=footprint)


PLANNED = planned(Footprint(500 * MIB, 100 * MIB, 50 * MIB, 40 * MIB, mapped_bytes=500 * MIB))


def test_buffers_count_as_they_were_made_and_the_rest_is_the_process() -> None:
    taken = Taken(
        resident_bytes=660 * MIB,
        file_bytes=500 * MIB,
        buffers=(
            Buffer("cpu", "weights", 500 * MIB, "mapped"),
            Buffer("cpu", "kv_cache", 96 * MIB),
            Buffer("cpu", "compute", 40 * MIB),
            Buffer("cpu", "other", 2 * MIB),
        ),
    )
    found = figures(taken, PLANNED)
    assert (found.weight_bytes, found.kv_bytes, found.compute_bytes) == (500 * MIB, 96 * MIB, 40 * MIB)
    # Compute buffers are resident only once a prompt has filled them: they come on top of what was.
    assert total_bytes(found) == 700 * MIB
    assert found.other_bytes == 64 * MIB and found.mapped_bytes == 500 * MIB
    assert total_bytes(figures(replace(taken, grown_bytes=20 * MIB), PLANNED)) == 720 * MIB, "it grew by more"
    growing = planned(replace(PLANNED.footprint, loaded_bytes=100 * MIB, used_bytes=250 * MIB))
    assert figures(taken, growing).above_bytes == found.above_bytes + 100 * MIB
    grown = figures(replace(taken, grown_bytes=20 * MIB), growing)
    assert grown.above_bytes - grown.below_bytes == 80 * MIB
    seen = refine(PLANNED.footprint, found)
    assert (seen.total_bytes, seen.method) == (700 * MIB, "measured")
    assert seen.low_bytes < seen.total_bytes < seen.high_bytes


def test_pages_that_copies_were_made_of_are_not_counted_unless_locked() -> None:
    taken = Taken(
        resident_bytes=900 * MIB,
        file_bytes=500 * MIB,
        buffers=(Buffer("cpu", "weights", 500 * MIB, "mapped"), Buffer("cpu", "weights", 300 * MIB, "copy")),
    )
    found = figures(taken, PLANNED)
    assert (found.mapped_bytes, found.weight_bytes, total_bytes(found)) == (200 * MIB, 500 * MIB, 600 * MIB)
    locked = figures(taken, planned(PLANNED.footprint, mlock=True))
    assert (locked.mapped_bytes, total_bytes(locked)) == (500 * MIB, 900 * MIB)


def test_an_engine_that_tells_nothing_is_weighed_as_a_whole() -> None:
    taken = Taken(resident_bytes=640 * MIB, file_bytes=560 * MIB, grown_bytes=10 * MIB)
    found = figures(taken, PLANNED)
    assert total_bytes(found) == 590 * MIB, "60 MiB of the file were read once and never again"
    assert (found.weight_bytes, found.kv_bytes, found.compute_bytes, found.other_bytes) == (
        500 * MIB,
        90 * MIB,
        0,
        0,
    )


def test_gpus_count_by_the_engines_word_and_else_by_the_drivers() -> None:
    taken = Taken(resident_bytes=100 * MIB, gpu_bytes={"cuda:0": 900 * MIB})
    assert total_bytes(figures(taken, PLANNED)) == 1000 * MIB
    told = replace(taken, buffers=(Buffer("cuda:0", "weights", 500 * MIB), Buffer("cuda:0", "compute", 90 * MIB)))
    found = figures(told, PLANNED)
    assert (found.weight_bytes, found.compute_bytes, total_bytes(found)) == (500 * MIB, 90 * MIB, 690 * MIB)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux")
def test_pages_of_a_file_are_told_from_all_others(tmp_path: Path) -> None:
    mine, other = tmp_path / "model", tmp_path / "other"
    for path in (mine, other):
        path.write_bytes(os.urandom(3 * MIB))
    with (
        mine.open("rb") as a,
        other.open("rb") as b,
        mmap.mmap(a.fileno(), 0, access=mmap.ACCESS_READ) as first,
        mmap.mmap(b.fileno(), 0, access=mmap.ACCESS_READ) as second,
    ):
        assert sum(first[::4096]) and sum(second[::4096])
        assert file_bytes(os.getpid(), (mine,)) == 3 * MIB
        assert file_bytes(os.getpid(), (mine, other)) == 6 * MIB
    seen = look(os.getpid())
    assert seen is not None and seen.peak_bytes >= seen.resident_bytes > MIB
    assert look(1 << 30) is None and file_bytes(1 << 30, (mine,)) == 0


class Book(Unobserved):
    """Remembers what was written down, and what was counted."""

    def __init__(self, broken: bool = False, on_gpus: tuple[int, ...] = ()) -> None:
        self.broken = broken
        self.on_gpus = on_gpus
        self.kept: list[tuple[LoadPlan, Taken, Figures]] = []
        self.counted: list[tuple[str, int, int]] = []

    def gpu_use(self, pid: int) -> Mapping[str, int]:
        return {"cuda:0": MIB} if pid in self.on_gpus else {}

    def grown(self, plan: LoadPlan) -> int:
        if self.broken:
            raise SetupError("the disk is gone")
        return max((taken.grown_bytes for _, taken, _ in self.kept), default=0)

    def keep(self, plan: LoadPlan, taken: Taken, figures: Figures) -> None:
        self.kept.append((plan, taken, figures))
        if self.broken:
            raise SetupError("the disk is full")

    def worker_measured(self, model: str, engine: str, method: str, predicted_bytes: int, measured_bytes: int) -> None:
        self.counted.append((method, predicted_bytes, measured_bytes))


async def test_a_worker_is_weighed_when_it_is_ready(tmp_path: Path) -> None:
    book = Book()
    async with bench(tmp_path, observer=book, records=book) as here:
        light = await here.supervisor.load(DEMO, flags("memory_mib=1"))
        await until(lambda: book.kept)
        heavy = await here.supervisor.load(DEMO, flags("memory_mib=65"))
        # Kept again, who has grown: a busy machine may touch a page late.
        await until(lambda: book.kept[-1][0].options != book.kept[0][0].options)
        (status,) = here.supervisor.status()
        loads = [book.kept[0], book.kept[-1]]
    assert light.measured_bytes == 0, "it serves before it was weighed"
    first, second = (taken for _, taken, _ in loads)
    assert 60 * MIB < second.resident_bytes - first.resident_bytes < 68 * MIB
    assert second.peak_bytes >= second.resident_bytes and not second.gpu_bytes
    assert status.measured_bytes == total_bytes(loads[1][2]) and status.peak_bytes == second.peak_bytes
    assert status.method == "header" and heavy.model == status.model
    assert book.counted == [("header", MIB, total_bytes(told)) for _, _, told in loads]


GROWS = f"""
import sys
held = []
for line in sys.stdin:
    held.append(bytearray(b"x") * {32 * MIB})
    print("grown", flush=True)
"""


@contextmanager
def growing() -> Iterator[tuple[int, Callable[[], None]]]:
    """A process of its own, and what makes it take 32 MiB more."""
    with subprocess.Popen([sys.executable, "-c", GROWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        to, answers = process.stdin, process.stdout
        assert to and answers

        def grow() -> None:
            to.write(b"more\n")
            to.flush()
            assert answers.readline() == b"grown\n"

        grow()
        yield process.pid, grow


def test_use_that_makes_it_grow_is_written_down_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.runtime.taken.FIRST_LOOKS", 2)
    monkeypatch.setattr("uml.runtime.taken.LOOK_EVERY_S", 600.0)
    book = Book()
    with growing() as (pid, grow):
        worker = Weighing(PLANNED, Fake(), pid, book)
        worker.ready()
        assert worker.settle(WorkerLog(tmp_path, "none"))
        grow()
        assert worker.used() and not worker.used(), "nothing has changed between the first and the second"
        grow()
        assert not worker.used(), "the third came right after a look"
        assert worker.grown(), "before its end it is looked at once more"
        worker.keep()
    assert book.kept[0][1].grown_bytes > 60 * MIB


async def test_growth_of_an_earlier_load_counts_for_one_that_was_used_less(tmp_path: Path) -> None:
    book = Book()
    book.kept.append((PLANNED, Taken(1, grown_bytes=50 * MIB), figures(Taken(1), PLANNED)))
    async with bench(tmp_path, observer=book, records=book) as here:
        await here.supervisor.load(DEMO)
        await until(lambda: len(book.kept) == 2)
        (status,) = here.supervisor.status()
        (running,) = here.supervisor._scheduler.outlook(Asked(0, DEMO))[2]
    taken = book.kept[1][1]
    assert taken.grown_bytes == 50 * MIB, "its conversations may have been read back, which spares it growing"
    assert status.measured_bytes == taken.resident_bytes + 50 * MIB - taken.file_bytes
    # Others are planned with what it needs, and get back what it has touched.
    assert running.bytes == running.on("cpu") == status.measured_bytes
    assert running.bytes - running.mapped_bytes == taken.resident_bytes - taken.file_bytes


def test_a_worker_is_promised_what_use_may_still_add_until_a_load_has_shown_it(tmp_path: Path) -> None:
    growing = replace(PLANNED.footprint, loaded_bytes=100 * MIB, used_bytes=250 * MIB)
    for method, more in (("header", 100 * MIB), ("measured", 0)):
        worker = Weighing(planned(replace(growing, method=method)), Fake(), os.getpid(), Book())
        assert worker.weighed() is None
        worker.ready()
        assert worker.settle(WorkerLog(tmp_path, "none"))
        weighed = worker.weighed()
        assert weighed and worker.figures
        assert weighed.device_bytes == {"cpu": total_bytes(worker.figures) + more}
        assert weighed.mapped_bytes == more


async def test_a_book_that_cannot_be_written_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book = Book(broken=True)
    async with bench(tmp_path, observer=book, records=book) as here:
        await here.supervisor.load(DEMO)
        await until(lambda: book.counted and "not remembered" in caplog.text)
        (status,) = here.supervisor.status()
        assert status.state == "ready" and status.measured_bytes


def test_a_process_that_is_gone_has_no_weight(tmp_path: Path) -> None:
    gone = Weighing(PLANNED, Fake(), 1 << 30, Book())
    gone.ready()
    assert not gone.settle(WorkerLog(tmp_path, "none")) and not gone.used()
    gone.keep()
    assert gone.taken is None and gone.figures is None


def test_a_driver_is_asked_of_workers_on_gpus(tmp_path: Path) -> None:
    on_gpu = replace(PLANNED, placement=Placement({"cuda:0": 1, "cpu": 1}))
    here = Weighing(on_gpu, Fake(), os.getpid(), Book(on_gpus=(os.getpid(),)))
    here.ready()
    assert here.settle(WorkerLog(tmp_path, "none"))
    assert here.taken is not None and here.taken.gpu_bytes == {"cuda:0": MIB}


def test_a_server_of_several_processes_is_weighed_with_all_of_them(tmp_path: Path) -> None:
    """As vLLM's, of which a front takes requests and a core has the model."""
    core = f"held = bytearray(os.urandom(1)) * {64 * MIB}; print(os.getpid(), flush=True); sys.stdin.read()"
    front = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os, sys; {core}'])"
    with subprocess.Popen([sys.executable, "-c", front], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdin
        below = int(process.stdout.readline())
        on_gpu = replace(PLANNED, placement=Placement({"cuda:0": 1, "cpu": 1}))
        book = Book(on_gpus=(process.pid, below))
        both = Weighing(on_gpu, Fake(), process.pid, book)
        both.ready()
        assert both.settle(WorkerLog(tmp_path, "none"))
        alone = look(process.pid)
        process.stdin.close()
    assert both.taken is not None and alone is not None
    assert both.taken.resident_bytes > alone.resident_bytes + 64 * MIB
    assert both.taken.gpu_bytes == {"cuda:0": 2 * MIB}
