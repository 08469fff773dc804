"""Limits that a container or a service manager sets: control groups, both generations.

A process is in a group, and that group in another, up to the root; the tightest limit on the way
counts. Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uml.core.errors import gib
from uml.hardware import files

# v1 writes "no limit" as the largest multiple of a page, not as a word.
_UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The most that may be used, and what is left of it, page cache counted as free."""

    total_bytes: int
    free_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class CpuLimit:
    """Processor time a second, in cores; may be a fraction."""

    cores: float
    reason: str


def memory_limits(root: Path) -> Iterator[MemoryLimit]:
    """Every memory limit over this process, from its own group up to the root."""
    for folder in _folders(root, "memory"):
        stat = _table(folder / "memory.stat")
        for name, used_name, prefix in (
            ("memory.max", "memory.current", ""),
            ("memory.high", "memory.current", ""),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        ):
            limit = files.number(folder / name)
            if limit is None or limit >= _UNLIMITED_BYTES:
                continue
            # The kernel drops page cache before it kills anyone, so a file that was read is not memory in use.
            cached = stat.get(prefix + "active_file", 0) + stat.get(prefix + "inactive_file", 0)
            used = max(0, (files.number(folder / used_name) or 0) - cached)
            yield MemoryLimit(limit, max(0, limit - used), f"cgroup {name} {gib(limit)}")
        # What groups above allow, which a container does not see, is told in its own figures (first generation).
        above, here = stat.get("hierarchical_memory_limit"), files.number(folder / "memory.usage_in_bytes")
        if above is not None and above < _UNLIMITED_BYTES and here is not None:
            cached = stat.get("total_active_file", 0) + stat.get("total_inactive_file", 0)
            free = max(0, above - max(0, here - cached))
            yield MemoryLimit(above, free, f"cgroup hierarchical_memory_limit {gib(above)}")


def cpu_limits(root: Path) -> Iterator[CpuLimit]:
    """Every limit of processor time over this process."""
    for folder in _folders(root, "cpu"):
        words = files.text(folder / "cpu.max").split()
        if len(words) == 2:
            yield from _cpu("cpu.max", files.whole(words[0]), files.whole(words[1]))
        quota, period = files.number(folder / "cpu.cfs_quota_us"), files.number(folder / "cpu.cfs_period_us")
        yield from _cpu("cpu.cfs_quota_us", quota, period)


def _cpu(name: str, quota: int | None, period: int | None) -> Iterator[CpuLimit]:
    if quota and period:
        yield CpuLimit(quota / period, f"cgroup {name} {quota / period:g} cores")


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group and of the groups above it that hold this controller.

    Inside a container the path may be the host's and not exist below our mount; the levels that
    do exist, the mount itself at least, are the container's own.
    """
    mounts = root / "sys/fs/cgroup"
    for line in files.text(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        controllers, path = parts[1], parts[2].strip("/")
        if not controllers:
            mount = mounts / "unified" if (mounts / "unified").is_dir() else mounts
        elif controller in controllers.split(","):
            mount = mounts / controllers if (mounts / controllers).is_dir() else mounts / controller
        else:
            continue
        inner = Path(path)
        levels = [inner, *inner.parents] if ".." not in inner.parts else [Path()]
        yield from (mount / level for level in levels if (mount / level).is_dir())


def _table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in files.text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and files.whole(row[1]) is not None}
