"""Commands of the installers, and the environment that they run in. Pure: nothing is started here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from uml.core.install import Recipe
from uml.runtime.installs.manifest import python_of

Installer = Literal["pip", "uv"]

_STRANGERS: Final = (
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__"),
    *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON"),
)
"""Variables that would have an installer see, or write to, another environment than the new one."""


def environment(environ: Mapping[str, str], temporary: Path, *, offline: bool) -> dict[str, str]:
    """What an installer is started with: all that its user has set for it, but where it installs to.

    temporary: for what it downloads and builds, on the disk of the install, and gone with it.
    """
    kept = {name: value for name, value in environ.items() if name not in _STRANGERS}
    ours = {"TMPDIR": str(temporary), "PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return {**kept, **ours, **({"PIP_NO_INDEX": "1", "UV_OFFLINE": "1"} if offline else {})}


def made_by(installer: Installer, program: str, python: Path, folder: Path, own_pip: bool) -> tuple[str, ...]:
    """The command that makes an empty virtual environment. program: uv, where that is the installer."""
    if installer == "uv":
        return program, "venv", "--quiet", "--python", str(python), str(folder)
    return str(python), "-I", "-m", "venv", *(() if own_pip else ("--without-pip",)), str(folder)


def filled_by(
    installer: Installer, program: str, folder: Path, words: tuple[str, ...], own_pip: bool
) -> tuple[str, ...]:
    """The command that installs requirements into it. own_pip: by the pip that is in it; else by the one beside uml."""
    python = str(python_of(folder))
    if installer == "uv":
        # Workers may not write there, and would compile at every start.
        return program, "pip", "install", "--python", python, "--compile-bytecode", "--no-progress", *words
    pip = (
        (python, "-I", "-u", "-m", "pip") if own_pip else (sys.executable, "-I", "-u", "-m", "pip", "--python", python)
    )
    return *pip, "install", "--progress-bar", "off", *words


_TOLD: Final = re.compile(r"(?:^|[.:])(?:index-url|extra-index-url|find-links|no-index)=")
_UV_TOLD: Final = (
    *("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX"),
    *("UV_TORCH_BACKEND", "UV_CONFIG_FILE"),
)


def configuration(python: str) -> tuple[str, ...]:
    """The command by which pip tells its configuration, variables included. python: an interpreter that has it."""
    return python, "-I", "-m", "pip", "config", "list"


def is_told(installer: Installer, configured: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether the user has told an installer where packages are: then that is all it asks.

    configured: what pip says its configuration is, line by line.
    """
    if installer == "pip":
        return any(_TOLD.search(line) for line in configured)
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    files = (home / "uv" / "uv.toml", Path("/etc/uv/uv.toml"))
    return any(environ.get(name) for name in _UV_TOLD) or any(file.is_file() for file in files)


def also_from(installer: Installer, index: str) -> tuple[str, ...]:
    """Words by which an installer looks there besides."""
    # Where it cannot be reached pip goes on without it, and should not try for minutes before.
    return ("--index", index) if installer == "uv" else ("--extra-index-url", index, "--retries", "2")


def requirements(recipe: Recipe, version: str) -> tuple[tuple[str, ...], ...]:
    """The steps of a recipe for a version."""
    return tuple(tuple(word.replace("{version}", version) for word in step) for step in recipe.steps)


def looked_for(recipe: Recipe, version: str) -> tuple[str, ...]:
    """Words for an installer that is to say whether there is such a version, before anything is fetched."""
    return "--dry-run", "--no-deps", f"{recipe.distribution}=={version}"


def program_of(installer: Installer, found: str | None, beside: Path) -> str | None:
    """The installer's program: on PATH, or beside an interpreter; `pip` needs none. None: it is not there."""
    if installer == "pip":
        return ""
    return found or next((str(path) for path in (beside / "uv",) if os.access(path, os.X_OK)), None)
