"""What a load takes at most, over what stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.transformers.conftest import PYTHON, SOURCE
from tests.engines.transformers.peaks import WAYS

SOURCES = Path(__file__).parents[3] / "src"
OVER = 1.1
"""The highest, of what stays."""
MIB = 1 << 20
Told = dict[str, dict[str, int]]

# It imports PyTorch, makes a model of 75 million weights, loads and quantizes it: 15 s.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the highest of a part of a process's life"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What `peaks.py` tells."""
    if not PYTHON:
        pytest.skip("UML_TEST_TRANSFORMERS_PYTHON names no interpreter with Transformers")
    if subprocess.run([PYTHON, "-c", "import bitsandbytes"], capture_output=True, check=False).returncode:
        pytest.skip("the environment has no bitsandbytes")
    folder = tmp_path_factory.mktemp("peaks")
    command = [PYTHON, str(Path(__file__).with_name("peaks.py")), str(SOURCES), str(folder), str(SOURCE)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: Told = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("way", WAYS)
def test_a_load_takes_hardly_more_than_what_stays(told: Told, way: str) -> None:
    assert told[way]["highest"] <= OVER * told[way]["stays"]


@pytest.mark.parametrize("way", ["in float32", "not mapped", "quantized"])
def test_what_was_made_into_something_else_is_not_mapped(told: Told, way: str) -> None:
    assert told[way]["pages"] == 0


def test_quantized_weights_take_less_at_once(told: Told) -> None:
    assert told["quantized"]["stays"] < told["in float32"]["stays"] - 100 * MIB
