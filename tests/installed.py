"""Interpreters of engines that are installed: what the tests of an engine's inside run in.

`UML_TEST_<ENGINE>_PYTHON` names one, as in UML_TEST_TRANSFORMERS_PYTHON; else it is that of the install in
UML_TEST_ENGINES, the data folder in which `make test ENGINES=1` has `uml engine install` make them.

An engine that the tests' own environment holds counts as installed too: what trains the demo model brings
Transformers, so with `make test TRAINING=1` the stories of a machine without it have no place.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from uml.runtime.installs import Installs

without_transformers = pytest.mark.skipif(
    find_spec("transformers") is not None, reason="Transformers is in the tests' own environment"
)


def python_of(engine: str) -> str:
    """The interpreter's path; empty where there is none, so that what needs it is skipped."""
    named = os.environ.get(f"UML_TEST_{engine.upper().replace('-', '_')}_PYTHON", "")
    data = os.environ.get("UML_TEST_ENGINES", "")
    if named or not data:
        return named
    install = Installs(Path(data) / "engines").find(engine, "")
    return str(install.python) if install else ""
