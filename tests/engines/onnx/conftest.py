"""The demo model as ONNX, and workers of it in a real environment of ONNX Runtime.

UML_TEST_ONNX_PYTHON is the interpreter of an install of `onnx`, UML_TEST_ONNX_BUILDER_PYTHON that of an install of
`onnx-builder`, which makes the models and says what Transformers answers: named, or installed for the tests
(`tests.installed`). What needs one is skipped without it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.installed import python_of
from tests.worker.process import Worker
from uml.core.install import Install
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.engines.onnx.engine import Onnx
from uml.formats import inspect
from uml.runtime.conversions import onnx
from uml.runtime.conversions.workshop import Making

ROOT = Path(__file__).parents[3]
PROMPTS = (
    "What is your name?",
    "Tell me a story about a dog.",
    "What is the capital of France?",
    "Write a list of three animals.",
    "Who are you?",
    "Hello",
)
_REFERENCE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
folder, prompts = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
found = []
for prompt in prompts:
    chat = [{"role": "user", "content": prompt}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        made = model.generate(**ids, max_new_tokens=32, do_sample=False)
    found.append(made[0, ids["input_ids"].shape[1]:].tolist())
print(json.dumps(found))
"""


def source() -> Path:
    """The demo model as safetensors."""
    return ROOT / "src" / "uml" / "models" / "demo-safetensors"


def _python(engine: str) -> Path:
    found = python_of(engine)
    if not found:
        pytest.skip(f"UML_TEST_{engine.upper().replace('-', '_')}_PYTHON names no interpreter")
    return Path(found)


def install_of(engine: str, python: Path) -> Install:
    """An interpreter as if `uml engine install` had made its environment."""
    return Install(engine, "0.18.0", folder=python.parents[1], python=python)


@pytest.fixture(scope="session")
def builder() -> Install:
    return install_of(onnx.BUILDER, _python("onnx-builder"))


@pytest.fixture(scope="session")
def engine() -> Onnx:
    python = _python("onnx")
    return Onnx(lambda engine, label: install_of(engine, python))


@dataclass(frozen=True)
class Made:
    """A converted model, and what was told on the way."""

    folder: Path
    steps: tuple[Making, ...]


def _made(builder: Install, folder: Path, precision: str) -> Made:
    steps: list[Making] = []
    order = onnx.Order("demo", inspect(source()), precision, folder / f"demo-{precision}", builder)
    return Made(onnx.convert(order, steps.append), tuple(steps))


@pytest.fixture(scope="session")
def fp32(builder: Install, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _made(builder, tmp_path_factory.mktemp("onnx"), "fp32")


@pytest.fixture(scope="session")
def int4(builder: Install, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _made(builder, tmp_path_factory.mktemp("onnx"), "int4")


@pytest.fixture(scope="session")
def reference(builder: Install) -> list[list[int]]:
    """What Transformers answers to `PROMPTS`, greedily, as token ids."""
    argv = (str(builder.python), "-I", "-c", _REFERENCE, str(source()), json.dumps(PROMPTS))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    found: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return found


def plan_of(path: Path, **options: Any) -> LoadPlan:
    """A plan as planning would make it: small, and without anything left to guess."""
    info = inspect(path)
    settled = {"ctx": info.context_length or 512, "parallel": 2, "batch": 512, "threads": 1, "engine": "onnx"}
    return LoadPlan(
        model=Model(id="demo", info=info),
        engine="onnx",
        options=LoadOptions.parse({**settled, **options}),
        footprint=Footprint(info.size_bytes, 1 << 20, 1 << 20),
        placement=Placement({"cpu": info.size_bytes}),
    )


Start = Callable[..., Worker]


@pytest.fixture
def start(engine: Onnx, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker of a model; all end with the test."""
    started: list[Worker] = []

    def begin(path: Path, *, environment: dict[str, str] | None = None, **options: Any) -> Worker:
        folder = tmp_path / f"w{len(started)}"
        folder.mkdir()
        started.append(Worker(engine, plan_of(path, **options), folder, **(environment or {})))
        return started[-1]

    yield begin
    for worker in started:
        worker.__exit__(None, None, None)


@pytest.fixture(scope="session")
def writer(engine: Onnx, fp32: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker of the model in full precision, for every test that leaves it as it was."""
    with Worker(engine, plan_of(fp32.folder, parallel=4), tmp_path_factory.mktemp("w")) as worker:
        yield worker.ready()
