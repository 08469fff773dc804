"""Models really quantized, each kind by its own library: a worker answers as the library itself does by the same files.

`make.py` quantizes the demo model by what the environment has; `UML_TEST_GPTQMODEL_PYTHON` names an interpreter that
has gptqmodel, for GPTQ and AWQ, as `uml engine install gptqmodel` makes it.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.transformers.conftest import SOURCE, Start
from tests.engines.transformers.test_answers import agree, greedy
from tests.installed import python_of
from tests.worker.process import question
from uml.core.install import Install
from uml.engines.transformers.engine import GPTQMODEL, Transformers
from uml.runtime.installs import tiny, tiny_gptq

# Every worker imports PyTorch, which takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Made = dict[str, Any]
KINDS = ("nf4", "fp4", "int8", "torchao-int8", "torchao-float8", "packed", "bitnet", "fp8")
GPTQ_PYTHON = python_of("gptqmodel")


@pytest.mark.parametrize("name", KINDS)
def test_weights_that_are_quantized_are_run(made: Made, start: Start, name: str) -> None:
    if name not in made["quantized"]:
        pytest.skip("the environment has no such package")
    worker = start(made["models"] / name, dtype="auto")
    assert worker.plan.model.info.quantization
    assert worker.plan.model.info.quantization.method != "none"
    told = made["quantized"][name]
    agree(told, [greedy(worker, prompt) for prompt in told["prompts"]])


@pytest.mark.parametrize(
    ("quantize", "same"),
    [
        ("bnb-nf4", "nf4"),
        ("bnb-fp4", "fp4"),
        ("bnb-int8", "int8"),
        ("torchao-int8", "torchao-int8"),
        ("torchao-float8", "torchao-float8"),
    ],
)
def test_weights_are_quantized_while_they_are_loaded(made: Made, start: Start, quantize: str, same: str) -> None:
    if same not in made["quantized"]:
        pytest.skip("the environment has no such package")
    worker = start(made["demo"]["folder"], quantize=quantize, dtype="auto")
    answer = worker.post("/v1/chat/completions", question("Who are you?", max_tokens=12))
    assert answer["usage"]["completion_tokens"] >= 3
    told = made["quantized"][same]
    agree(told, [greedy(worker, prompt) for prompt in told["prompts"]])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What gptqmodel answers by each of its kinds; `folder`: where they are."""
    if not GPTQ_PYTHON:
        pytest.skip("UML_TEST_GPTQMODEL_PYTHON names no interpreter with gptqmodel")
    folder = tmp_path_factory.mktemp("packed")
    command = [GPTQ_PYTHON, str(Path(__file__).with_name("pack.py")), str(folder), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **GPTQMODEL})
    return {**json.loads((folder / "told.json").read_text()), "folder": folder}


def with_gptqmodel(engine: str, label: str) -> Install | None:
    return Install(engine, "7.7.0", Path(GPTQ_PYTHON).parents[1], Path(GPTQ_PYTHON)) if engine == "gptqmodel" else None


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_gptq_and_awq_are_run_by_an_environment_of_their_own(packed: Made, start: Start, name: str) -> None:
    worker = start(packed["folder"] / name, by=Transformers(with_gptqmodel), dtype="auto")
    told = packed[name]
    agree(told, [greedy(worker, prompt) for prompt in told["prompts"]])


def test_the_model_that_its_install_is_tried_with_has_its_answer(packed: Made, start: Start) -> None:
    folder = tiny_gptq.write(packed["folder"] / "tiny")
    worker = start(folder, by=Transformers(with_gptqmodel), dtype="auto")
    asked = {"prompt": tiny.PROMPT, "max_tokens": len(tiny_gptq.ANSWER), "temperature": 0}
    assert worker.post("/v1/completions", asked)["choices"][0]["text"] == tiny_gptq.ANSWER
