"""What is replaced in the library while it loads a model, and what where it cannot be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engines.transformers.conftest import PYTHON, SOURCE

# It imports PyTorch.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SOURCES = Path(__file__).parents[3] / "src"
HEAD = """
import logging, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from transformers import modeling_utils
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.engines.transformers.reading import lean, reads_apart
from uml.formats import inspect
options = LoadOptions.parse({"engine": "transformers", "mmap": False})
plan = LoadPlan(Model("m", inspect(Path(sys.argv[2]))), "transformers", options, Footprint(0, 0, 0), Placement({}))
own = modeling_utils.safe_open
"""
TWO = """
entered, left = threading.Event(), threading.Event()
def second():
    with lean(plan, None):
        entered.set()
        left.wait(60)
        assert modeling_utils.safe_open is not own
thread = threading.Thread(target=second)
with lean(plan, None):
    assert modeling_utils.safe_open is not own
    thread.start()
    assert not entered.wait(0.5)  # the second one waits, and may do so for any time
left.set()
thread.join()
assert entered.is_set() and modeling_utils.safe_open is own
try:
    with lean(plan, None):
        raise KeyError
except KeyError:
    assert modeling_utils.safe_open is own
"""
MOVED = """
logging.basicConfig()
for there in (None, type, 5):  # gone, without a signature, and no function
    reads_apart.cache_clear()
    modeling_utils.safe_open = there
    with lean(plan, None):
        assert modeling_utils.safe_open is there
    assert modeling_utils.safe_open is there
"""


def say(code: str) -> str:
    """What this code logs in an interpreter that has Transformers."""
    if not PYTHON:
        pytest.skip("UML_TEST_TRANSFORMERS_PYTHON names no interpreter with Transformers")
    command = [PYTHON, "-c", HEAD + code, str(SOURCES), str(SOURCE)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_two_loads_wait_for_each_other_and_put_back_what_they_found() -> None:
    say(TWO)


def test_a_library_that_reads_in_another_way_is_let_do_so_with_a_word() -> None:
    assert say(MOVED).count("cannot be told how to read files") == 3
