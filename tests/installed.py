"""Interpreters of engines that are installed: what the tests of an engine's inside run in.

`UML_TEST_<ENGINE>_PYTHON` names one, as in UML_TEST_TRANSFORMERS_PYTHON; else it is that of the install in
UML_TEST_ENGINES, the data folder in which `make test ENGINES=1` has `uml engine install` make them.
"""

from __future__ import annotations

import os
from pathlib import Path

from uml.runtime.installs import Installs


def python_of(engine: str) -> str:
    """The interpreter's path; empty where there is none, so that what needs it is skipped."""
    named = os.environ.get(f"UML_TEST_{engine.upper().replace('-', '_')}_PYTHON", "")
    data = os.environ.get("UML_TEST_ENGINES", "")
    if named or not data:
        return named
    install = Installs(Path(data) / "engines").find(engine, "")
    return str(install.python) if install else ""
