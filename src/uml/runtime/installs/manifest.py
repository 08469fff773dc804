"""What is written down of an install, in its folder: the file makes a folder an install, and is written last."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from uml.core.install import Install

FILE: Final = "uml-install.json"
VERSION: Final = 1
_NVIDIA: Final = ("nvidia-cu", "nvidia-cublas", "onnxruntime-gpu", "onnxruntime-genai-cuda")
SCRIPTS: Final = "Scripts" if sys.platform == "win32" else "bin"
_PYTHON: Final = "python.exe" if sys.platform == "win32" else "python"


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / SCRIPTS / _PYTHON


def write(install: Install) -> None:
    """Write it down, in one piece. Raises OSError."""
    document = {
        "manifest": VERSION,
        "engine": install.engine,
        "version": install.version,
        "label": install.label,
        "packages": dict(sorted(install.packages.items())),
        "platform": install.platform,
        "accelerator": install.accelerator,
        "made": install.made,
        "size_bytes": install.size_bytes,
        "smoke": {"result": install.smoke, "says": install.smoke_says},
    }
    fresh = install.folder / f".{FILE}.{os.getpid()}"
    fresh.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    fresh.replace(install.folder / FILE)


def read(folder: Path) -> Install | None:
    """The install in a folder; None where there is none that is whole."""
    try:
        document: Mapping[str, Any] = json.loads((folder / FILE).read_text("utf-8"))
        if document["manifest"] != VERSION:
            return None
        smoke = document["smoke"]
        python = python_of(folder)
        # The base interpreter may go when the system is upgraded; the link to it stays.
        gone = not python.exists()
        return Install(
            engine=document["engine"],
            version=document["version"],
            folder=folder,
            python=python,
            label=folder.name,
            packages=document["packages"],
            platform=document["platform"],
            accelerator=document["accelerator"],
            made=document["made"],
            size_bytes=document["size_bytes"],
            smoke="failed" if gone else smoke["result"],
            smoke_says=f"its Python, {os.path.realpath(python)}, is gone: install it anew" if gone else smoke["says"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # made by another version, cut short, or not one of ours


def packages_in(folder: Path) -> dict[str, str]:
    """Name -> version of every package in a virtual environment, but what installs and does not run."""
    places = [str(place) for place in (*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages"))]
    found = {_plain(one.metadata["Name"]): one.version for one in distributions(path=places) if one.metadata["Name"]}
    return {name: version for name, version in sorted(found.items()) if name != "pip"}


def accelerator_of(packages: Mapping[str, str]) -> str:
    """What the libraries were built for, by their names and versions."""
    torch = packages.get("torch", "")
    if "+rocm" in torch:
        return "rocm"
    if "+cu" in torch or any(name.startswith(_NVIDIA) for name in packages):
        return "cuda"
    return "metal" if sys.platform == "darwin" and torch else "cpu"


def tree_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed. What goes meanwhile is not counted."""
    total, open_ = 0, [str(folder)]
    while open_:
        try:
            with os.scandir(open_.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        open_.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def _plain(name: str) -> str:
    """A package's name as the index has it (PEP 503, but with what it is written with inside kept apart by `-`)."""
    return name.lower().replace("_", "-").replace(".", "-")
