"""Engines are tried by real workers; those of an install run in its environment, and see nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import uml.worker.alone
from tests.runtime.installs.wheels import offers, packed, recipe
from tests.runtime.stand_in import DEMO, flags, machine, plan
from uml.core.engine import Endpoint
from uml.core.install import Install
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.fake import Fake
from uml.engines.recipes import WORKER
from uml.runtime.installs import Installs
from uml.runtime.installs.trial import compared
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.workers.limits import Limits

ALONE = Path(uml.worker.alone.__file__)


def planned(*words: str) -> LoadPlan:
    return plan(DEMO, flags(*words, engine="fake"), machine(1 << 30), [])


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_a_right_answer_passes_and_a_wrong_one_is_quoted(tmp_path: Path) -> None:
    assert (await compared(Fake(), planned(), "a", "a", tmp_path)).result == "passed"
    trial = await compared(Fake(), planned(), "a", "b", tmp_path)
    assert (trial.result, trial.says) == ("failed", "a tiny model answered 'a', and 'b' is right")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("crash_on_load=1", "did not load"),
        ("crash_after_tokens=1", "went away in mid-answer"),
        ("illegal_instruction=1", "SIGILL"),
        ("no_such_fault=1", "extra_flags"),
    ],
)
async def test_a_worker_that_does_not_come_to_an_answer_fails(tmp_path: Path, word: str, sentence: str) -> None:
    trial = await compared(Fake(), planned(word), "a", "a b", tmp_path)
    assert trial.result == "failed"
    assert sentence in trial.says


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Installs:
    """An install of the engine `fake`: what a worker needs, out of our own environment, and nothing else."""
    folder = tmp_path_factory.mktemp("shelf")
    packed(folder / "wheels", "uvicorn", "uvloop", "httptools", "orjson", "click", "h11")
    made = recipe((WORKER,), engine="fake", distribution="uvicorn", module="orjson")
    shelf = Installs(folder / "engines", {"fake": made})
    order = shelf.order("fake", frozenset({"cpu"}))
    shelf.install(order, environ=offers(folder / "wheels", os.environ))
    return shelf


async def test_a_worker_of_an_install_runs_confined_with_its_own_python(shelf: Installs, tmp_path: Path) -> None:
    found = shelf.get("fake")
    engine = Fake(shelf.find)
    launch = engine.launch(planned(), Endpoint("k", socket=tmp_path / "w.sock"))
    assert launch.argv[:2] == (str(found.python), "-I")
    assert found.folder in launch.reads
    fence = Confinement.here("auto", Limits(), tmp_path / "cache")
    trial = await compared(engine, planned(), "a", "a", tmp_path, fence)
    assert (trial.result, trial.says) == ("passed", "a tiny model answered 'a', which is right")


def test_it_finds_our_package_and_nothing_that_lies_beside_it(shelf: Installs) -> None:
    words = (
        "import runpy, sys\n"
        f"runpy.run_path({str(ALONE)!r})\n"
        "import uml, uml.core.plan, uml.worker.serve\n"
        "print(uml.__file__)\n"
        "try:\n    import typer\nexcept ModuleNotFoundError as error:\n    print(error)\n"
        "print(any(path.startswith(sys.argv[1]) for path in sys.path))"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(pytest.__file__).parents[1])}
    told = subprocess.run(
        [shelf.get("fake").python, "-I", "-c", words, str(ALONE.parents[2])],
        capture_output=True, text=True, check=True, env=environ,
    )  # fmt: skip
    assert told.stdout.splitlines() == [str(ALONE.parents[1] / "__init__.py"), "No module named 'typer'", "False"]


def test_the_worker_itself_says_how_it_is_called(shelf: Installs) -> None:
    told = subprocess.run(
        [shelf.get("fake").python, "-I", ALONE], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert told.returncode == 2
    assert told.stderr.startswith("usage: ")


def test_what_is_shared_runs_with_our_python(shelf: Installs) -> None:
    ours = Install("x", "1", Path(sys.prefix), Path(sys.executable), "shared", shared=True)
    assert handover.worker(ours) == handover.worker(None) == (sys.executable, "-m", "uml.worker")


def test_what_workers_need_is_what_this_package_asks_for() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert set(WORKER) <= set(project["dependencies"])
