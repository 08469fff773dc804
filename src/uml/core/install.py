"""An install: one environment of an engine, with what was resolved in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Smoke = Literal["passed", "failed", "not run"]


@dataclass(frozen=True, slots=True)
class Install:
    """One environment of an engine.

    version: of the engine's own library. python: the environment's interpreter, which starts its workers.
    packages: name -> version of everything resolved. accelerator: `cpu`, `cuda`, `rocm`, `metal`.
    made: when, ISO 8601 in UTC. smoke: what its first test said, and `smoke_says` the sentence.
    shared: the libraries are those of the environment that uml itself runs in; nothing is ours to remove.
    """

    engine: str
    version: str
    folder: Path
    python: Path
    packages: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    accelerator: str = "cpu"
    made: str = ""
    size_bytes: int = 0
    smoke: Smoke = "not run"
    smoke_says: str = ""
    shared: bool = False


Installed: TypeAlias = Callable[[str, str], Install | None]
"""The install of an engine, by its name and a version; of the one in use where that is empty. None: there is none."""
