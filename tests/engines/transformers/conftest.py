"""Tiny models, and workers of an interpreter that has Transformers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.installed import python_of
from tests.worker.process import Worker
from uml.core.engine import Engine
from uml.core.install import Install
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.engines.transformers.engine import Transformers
from uml.formats import inspect

PYTHON = python_of("transformers")
SOURCE = Path(__file__).parents[3] / "src" / "uml" / "models" / "demo-safetensors"
Start = Callable[..., Worker]
IMPORTS_S = 150.0
"""Seconds within which a worker has imported PyTorch, on a machine that does much else. Alone it takes three."""


def installed(engine: str, label: str) -> Install | None:
    """The interpreter that the environment names, as an install."""
    return Install("transformers", "5.23.0", Path(PYTHON).parents[1], Path(PYTHON)) if PYTHON else None


OURS = Transformers(installed)


def plan_of(path: Path, **options: Any) -> LoadPlan:
    """A plan for a model as it is found on disk."""
    settled = {"ctx": 128, "parallel": 4, "batch": 512, "threads": 1, "engine": "transformers", "dtype": "float32"}
    return LoadPlan(
        model=Model("demo", inspect(path)),
        engine="transformers",
        options=LoadOptions.parse({**settled, **options}),
        footprint=Footprint(1 << 20, 1 << 20, 1 << 20),
        placement=Placement({"cpu": 3 << 20}),
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `make.py` tells of each model, and its `folder`."""
    if not PYTHON:
        pytest.skip("UML_TEST_TRANSFORMERS_PYTHON names no interpreter with Transformers")
    folder = tmp_path_factory.mktemp("models")
    command = [PYTHON, str(Path(__file__).with_name("make.py")), str(folder), str(SOURCE)]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for name in ("one", "two", "window", "mixed", "mamba", "t5", "bart", "falcon", "alibi", "bert"):
        told[name]["folder"] = folder / name
    told["demo"]["folder"] = SOURCE
    told["models"] = folder
    return told


@pytest.fixture(scope="session")
def start(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a worker for a folder with load options, and variables; the same one again for the same."""
    running: dict[str, Worker] = {}
    with ExitStack() as stack:

        def started(
            folder: Path, *, environment: Mapping[str, str] | None = None, by: Engine = OURS, **options: Any
        ) -> Worker:
            key = json.dumps([str(folder), options, environment], sort_keys=True, default=str)
            if key not in running:
                plan = plan_of(folder, **options)
                worker = Worker(by, plan, tmp_path_factory.mktemp("w"), **(environment or {}))
                running[key] = stack.enter_context(worker).ready(IMPORTS_S)
            return running[key]

        yield started


def broken(plan: LoadPlan, folder: Path) -> Worker:
    """A worker whose load fails, ended."""
    worker = Worker(Transformers(installed), replace(plan), folder)
    worker.end(IMPORTS_S)
    return worker
