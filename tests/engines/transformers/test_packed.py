"""Matrices of 16 bits on processors without instructions for them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.transformers.conftest import PYTHON, SOURCE, Start
from tests.worker.process import question

SOURCES = Path(__file__).parents[3] / "src"
BFLOAT16 = 2.0**-8
"""Two of its roundings."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What `packing.py` tells."""
    if not PYTHON:
        pytest.skip("UML_TEST_TRANSFORMERS_PYTHON names no interpreter with Transformers")
    command = [PYTHON, str(Path(__file__).with_name("packing.py")), str(SOURCES)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert not found["float32"], "numbers of 32 bits are multiplied by every processor"
    if not found["helps"]:
        pytest.skip("this processor multiplies bfloat16, or FBGEMM does not run on it")
    return found


@pytest.mark.parametrize("name", ["plain", "with a bias"])
def test_a_packed_matrix_gives_what_it_gave(told: dict[str, Any], name: str) -> None:
    found = told[name]
    assert found["packed"] and found["off"] < BFLOAT16
    assert found["type"] == "torch.bfloat16"


@pytest.mark.parametrize("name", ["plain", "with a bias"])
def test_what_a_row_gets_does_not_depend_on_others(told: dict[str, Any], name: str) -> None:
    assert told[name]["alone"]


def test_who_asks_for_its_shape_still_learns_it(told: dict[str, Any]) -> None:
    assert told["plain"]["shape"] == [10_000, 896]


@pytest.mark.parametrize("name", ["small", "faint", "huge"])
def test_what_float16_does_not_hold_and_what_is_small_stays_as_it_is(told: dict[str, Any], name: str) -> None:
    assert not told[name]["packed"] and told[name]["off"] == 0


@pytest.mark.parametrize("repack", [True, False])
def test_a_model_in_bfloat16_knows_what_it_knew(start: Start, repack: bool) -> None:
    worker = start(SOURCE, dtype="bfloat16", repack=repack)
    answer = worker.post(
        "/v1/chat/completions", question("What is the capital of Japan?", temperature=0, max_tokens=20)
    )
    assert "Tokyo" in answer["choices"][0]["message"]["content"]
