"""A model that is converted before its worker starts: seen, stopped, failed and stuck."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.stand_in import DEMO, LARGE, SIZE, bench, flags, model
from tests.waiting import until
from uml.core.engine import Launch
from uml.core.errors import Cancelled, ConversionFailed, LoadSuspended, LoadTimeout, OutOfMemory, UmlError
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.runtime.conversions.packing import Confine
from uml.runtime.conversions.workshop import Making
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.scheduling.policy import Policy
from uml.runtime.workers.limits import Limits

OLD = model("old")


class Work:
    """A converter that is half done until it is let go on, or told to stop."""

    def __init__(self, error: UmlError | None = None) -> None:
        self.calls = self.looks = 0
        self.stopped = 0
        self.go_on = threading.Event()
        self.error = error

    def __call__(
        self, plan: LoadPlan, tell: Callable[[Making], None], cancelled: Callable[[], bool], confine: Confine
    ) -> None:
        assert plan.conversion is not None
        if plan.conversion.place.exists():
            self.looks += 1
            return
        self.calls += 1
        tell(Making("packing", 50))
        while not self.go_on.wait(0.01):
            if cancelled():
                self.stopped += 1
                raise Cancelled("it was stopped")
        if self.error:
            raise self.error
        self.works(plan, confine)
        plan.conversion.place.touch()
        tell(Making("done", 100))

    def works(self, plan: LoadPlan, confine: Confine) -> None:
        """Nothing is really made here."""


async def test_it_is_seen_where_loads_are_seen(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, converter=work) as office:
        seen = []
        async for step in office.supervisor.load_progress(OLD, flags()):
            seen.append(step)
            if step.stage == "converting":
                (status,) = office.supervisor.status()
                assert (status.state, status.pid) == ("converting", None)
                work.go_on.set()
        converting = [step for step in seen if step.stage == "converting"]
        assert converting and seen[-1].stage == "ready"
        # Half of the conversion, which is half of the way.
        assert converting[-1].total_bytes == 2 * SIZE and 20 <= converting[-1].percent <= 50
        percents = [step.percent for step in seen]
        assert percents == sorted(percents)


async def test_a_worker_that_comes_back_asks_again(tmp_path: Path) -> None:
    work = Work()
    work.go_on.set()
    async with bench(tmp_path, converter=work) as office:
        await office.supervisor.load(OLD, flags())
        await office.supervisor.unload()
        async with office.supervisor.lease(OLD, flags()):
            assert (work.calls, work.looks) == (1, 2), "it looks whether the file is there, whenever a worker starts"
        await office.supervisor.load(model("new"), flags())
        assert (work.calls, work.looks) == (1, 2)


async def test_nobody_leaves_for_it_before_it_can_be_loaded(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, room_for=1, converter=work) as office:
        await office.supervisor.load(DEMO, flags())
        load = asyncio.ensure_future(office.supervisor.load(OLD, flags()))
        await until(lambda: work.calls)
        assert {one.model: one.state for one in office.supervisor.status()} == {"demo": "ready", "old": "converting"}
        async with office.supervisor.lease(DEMO) as lease:
            assert not lease.loaded, "and it goes on answering"
        work.go_on.set()
        await load
        assert [one.model for one in office.supervisor.status()] == ["old"]


async def test_a_load_that_was_given_up_after_its_conversion_begins_anew(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, room_for=1, converter=work) as office:
        await office.supervisor.load(DEMO, flags())
        load = asyncio.ensure_future(office.supervisor.load(OLD, flags()))
        await until(lambda: work.calls)
        async with office.supervisor.lease(DEMO):
            work.go_on.set()
            await until(lambda: [place.waits_for for place in office.supervisor.queue()] == ["memory"])
            load.cancel()
            await until(load.done)
        steps = [step async for step in office.supervisor.load_progress(OLD, flags("load_s=1"))]
        assert {step.total_bytes for step in steps if step.stage == "loading"} == {SIZE}


async def test_what_is_to_be_there_comes_after_its_conversion_too(tmp_path: Path) -> None:
    work = Work()
    work.go_on.set()
    async with bench(tmp_path, converter=work) as office:
        office.supervisor.keep(OLD, "pinned", flags())
        await until(lambda: [one.state for one in office.supervisor.status()] == ["ready"])
        assert work.calls == 1


async def test_who_makes_it_reads_the_model_and_no_other(tmp_path: Path) -> None:
    """The weights are a stranger's, whoever works on them."""
    confinement = await asyncio.to_thread(Confinement.here, "auto", Limits(), tmp_path / "cache")
    if not confinement.means.landlock:
        pytest.skip("Landlock is not to be had here")
    (tmp_path / "mine").mkdir()
    source, secret, out = tmp_path / "old.bin", tmp_path / "mine" / "secret", tmp_path / "out"
    source.write_text("weights")
    secret.write_text("secret")
    out.mkdir()
    old = Model("old", replace(OLD.info, path=source, files=(source,)))
    code = (
        "import pathlib, sys\n"
        "source, secret, out = map(pathlib.Path, sys.argv[1:])\n"
        "(out / 'made').write_text(source.read_text())\n"
        "try:\n    (out / 'told').write_text(secret.read_text())\n"
        "except PermissionError:\n    (out / 'told').write_text('kept out')\n"
    )

    class Reads(Work):
        def works(self, plan: LoadPlan, confine: Confine) -> None:
            words = (sys.executable, "-c", code, str(source), str(secret), str(out))
            launch = confine(Launch(words, writes=(out,)))
            subprocess.run(launch.argv, env={**os.environ, **launch.environment}, check=True)

    work = Reads()
    work.go_on.set()
    async with bench(tmp_path, converter=work, confinement=confinement) as office:
        await office.supervisor.load(old, flags())
    assert ((out / "made").read_text(), (out / "told").read_text()) == ("weights", "kept out")


async def test_nobody_waits_any_more_and_it_ends(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, converter=work) as office:
        load = asyncio.ensure_future(office.supervisor.load(OLD, flags()))
        await until(lambda: work.calls)
        load.cancel()
        await until(lambda: work.stopped)
        await until(lambda: not office.supervisor.status())
        async with asyncio.timeout(10):
            again = asyncio.ensure_future(office.supervisor.load(OLD, flags()))
            await until(lambda: work.calls == 2)
            assert await office.supervisor.unload([OLD.id]) == (OLD.id,)
            with pytest.raises(Cancelled):
                await again


async def test_a_failure_is_told_and_not_tried_for_every_request(tmp_path: Path) -> None:
    work = Work(ConversionFailed("old", "the disk is full"))
    work.go_on.set()
    async with bench(tmp_path, converter=work, policy=Policy(retry_s=60.0)) as office:
        with pytest.raises(ConversionFailed, match="the disk is full"):
            async with office.supervisor.lease(OLD, flags()):
                pass
        with pytest.raises(LoadSuspended, match="the disk is full"):
            async with office.supervisor.lease(OLD, flags()):
                pass
        assert work.calls == 1


async def test_one_that_runs_out_of_memory_is_not_tried_with_less(tmp_path: Path) -> None:
    """A smaller context makes no conversion smaller."""
    work = Work(OutOfMemory("old", "cpu"))
    work.go_on.set()
    large = LoadOptions.parse({"engine": "fake", "ctx": LARGE, "degrade": "context"})
    async with bench(tmp_path, converter=work) as office:
        with pytest.raises(OutOfMemory):
            await office.supervisor.load(OLD, large)
        assert work.calls == 1


async def test_one_that_stands_still_is_given_up(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, converter=work, stall_s=0.6) as office:
        with pytest.raises(LoadTimeout, match="conversion to GGUF stood still"):
            await office.supervisor.load(OLD, flags())
        assert work.stopped == 1


async def test_the_end_of_the_server_is_the_end_of_it(tmp_path: Path) -> None:
    work = Work()
    async with bench(tmp_path, converter=work) as office:
        load = asyncio.ensure_future(office.supervisor.load(OLD, flags()))
        await until(lambda: work.calls)
    assert work.stopped == 1
    with pytest.raises(UmlError):
        await load
