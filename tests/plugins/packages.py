"""Packages with plug-ins, installed into a folder that a process then finds on its path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "wordchain"


def install_example(target: Path) -> Path:
    """The example as `pip install` makes it of its folder; the target."""
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(EXAMPLE)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target


def write_package(target: Path, name: str, code: str) -> Path:
    """A package of one module, as an installer would leave it; the target."""
    about = target / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[uml.plugins]\n{name} = {name}\n")
    (target / f"{name}.py").write_text(code)
    return target
