"""An install: one environment of an engine, with what was resolved in it; and the recipe that it is made by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

Smoke = Literal["passed", "failed", "not run"]
SHARED: Final = "shared"


@dataclass(frozen=True, slots=True)
class Install:
    """One environment of an engine.

    version: of the engine's own library. python: the environment's interpreter, which starts its workers.
    label: what it is called among the installs of its engine: its version, with a mark where that is not enough
        (`2026.10.11549-native`); `shared` for the one of uml's own environment.
    packages: name -> version of everything resolved. accelerator: `cpu`, `cuda`, `rocm`, `metal`.
    made: when, ISO 8601 in UTC. smoke: what its first test said, and `smoke_says` the sentence.
    shared: the libraries are those of the environment that uml itself runs in; nothing is ours to remove.
    """

    engine: str
    version: str
    folder: Path
    python: Path
    label: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    accelerator: str = "cpu"
    made: str = ""
    size_bytes: int = 0
    smoke: Smoke = "not run"
    smoke_says: str = ""
    shared: bool = False

    @property
    def name(self) -> str:
        """As it is chosen on a command line or by the option `engine`."""
        return f"{self.engine}=={self.label or self.version}"


Installed: TypeAlias = Callable[[str, str], Install | None]
"""The install of an engine, by its name and a label; of the one in use where that is empty. None: there is none.

An engine calls it whenever it is asked whether it is available and before it launches a worker, for installs come and
go while a server runs; it reads a file or two. The label is `LoadOptions.engine_version`.
"""


Stage = Literal["environment", "installing", "testing", "done"]


@dataclass(frozen=True, slots=True)
class Step:
    """How far the making of an install is.

    text: what is being done. bytes: of `total_bytes`, which is the recipe's guess. percent: 0 to 100, never falls.
    """

    engine: str
    stage: Stage
    text: str = ""
    bytes: int = 0
    total_bytes: int = 0
    percent: float = 0.0
    seconds: float = 0.0


def nowhere(engine: str, label: str) -> Install | None:
    """An `Installed` that knows of none."""
    return None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the environment of an engine is made of, as data.

    distribution: the package that is the engine, whose version the install has; pinned in one of the steps.
    module: what is imported to see that it works; empty for one whose import compiles for minutes.
    steps: requirements that are installed together, group by group; words that begin with `--` are options of the
        installer. `{version}` is the one asked for.
    version: of the distribution, where none is asked for.
    needs: kinds of device of which the machine must have one; empty: none.
    disk_bytes: of the whole environment, by accelerator; `cpu` where it does not say.
    download_bytes: the same of what is fetched for it.
    hosted: our worker serves it, and must find what it needs there. pythons: versions of Python that it runs on, as
        (major, minor), the preferred one first; empty: the one that uml runs on.
    note: what a user should know before. built: out of its source, for this machine, by `uml engine build`.
    cpu_index: a package index with what the first step installs, built for processors alone. It is asked where the
        machine has no GPU, and nobody has told the installer where to look: elsewhere these are for CUDA.
    """

    engine: str
    title: str
    distribution: str
    version: str
    module: str
    steps: tuple[tuple[str, ...], ...]
    disk_bytes: Mapping[str, int]
    download_bytes: Mapping[str, int]
    needs: frozenset[str] = frozenset()
    hosted: bool = True
    pythons: tuple[tuple[int, int], ...] = ()
    note: str = ""
    built: bool = False
    cpu_index: str = ""
