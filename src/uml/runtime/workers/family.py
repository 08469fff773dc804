"""A worker and the processes below it: servers of several parts hold models in their children."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and those below it; only itself where the kernel does not tell."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in children.read_bytes().split()]
    return found
