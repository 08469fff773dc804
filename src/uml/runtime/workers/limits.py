"""What a worker may take of the machine: memory, processor time, and how it comes about.

Memory is limited by a control group (v2) where one can be made: it counts what is resident, and the pages of a mapped
model can be taken back. Elsewhere by RLIMIT_DATA, which counts private writable memory that was asked for, and not
the mapped file; a limit of the address space would refuse the mapping itself. Processor time is limited by the same
group, elsewhere by the processors that it may run on. Sources: Documentation/admin-guide/cgroup-v2.rst, getrlimit(2).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

PERIOD_US: Final = 100_000
UNUSED_BYTES: Final = 64 << 20
"""What a worker asks for and never touches, beside stacks: 30 to 40 MiB of llama.cpp's and Python's."""
USUAL_STACK: Final = 8 << 20
UNBOUND_STACK: Final = 2 << 20
"""What glibc reserves for a thread where RLIMIT_STACK is unlimited: ARCH_STACK_DEFAULT_SIZE in its sources."""


@dataclass(frozen=True, slots=True)
class Limits:
    """For each worker. memory_bytes, cpu_share (0 to 1, of all processors of the server): None for no limit.

    nice: 0 to 19, how far it steps back behind other programs.
    """

    memory_bytes: int | None = None
    cpu_share: float | None = None
    nice: int = 0

    @property
    def wants_group(self) -> bool:
        """Whether a control group would do anything."""
        return self.memory_bytes is not None or self.cpu_share is not None


def processors() -> tuple[int, ...]:
    """The numbers of those that this process may run on; empty where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def cores(share: float | None, count: int) -> int:
    """How many whole processors of `count` a share comes to, at least one; all of them without a limit."""
    return count if share is None else max(1, min(count, ceil(share * count)))


def some_of(allowed: tuple[int, ...], share: float | None, number: int) -> tuple[int, ...]:
    """The processors for the worker of this number; workers after each other get others. Empty: no limit."""
    count = cores(share, len(allowed))
    if count >= len(allowed):
        return ()
    first = number * count
    return tuple(sorted(allowed[(first + step) % len(allowed)] for step in range(count)))


def data_bytes(memory_bytes: int | None, threads: int) -> int | None:
    """The RLIMIT_DATA that lets a worker with so many threads have this memory; None for no limit.

    Linux counts what was asked for. A thread asks for a stack as large as RLIMIT_STACK and touches a few pages of it:
    the eighty of llama.cpp's server come to 640 MiB, and a limit without them would refuse the smallest model.
    What of this a worker does not use it can fill: with four threads that compute, llama.cpp's can come to 160 MiB more
    than it may have, and others to 240 MiB. Smaller stacks would be less of it, and end what recurses deeply.
    """
    if memory_bytes is None:
        return None
    return memory_bytes + threads * _stack_bytes() + UNUSED_BYTES


def _stack_bytes() -> int:
    try:
        import resource
    except ImportError:
        return USUAL_STACK
    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    return UNBOUND_STACK if soft == resource.RLIM_INFINITY else soft


def parent_group(root: Path = Path("/")) -> Path | None:
    """The nearest control group (v2) over this process in which groups of ours with a memory limit can be made."""
    mount = root / "sys/fs/cgroup"
    mount = mount / "unified" if (mount / "unified").is_dir() else mount
    try:
        lines = (root / "proc/self/cgroup").read_text("ascii").splitlines()
    except OSError:
        return None
    own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), None)
    if own is None or ".." in Path(own).parts:
        return None
    for folder in (mount / own, *(mount / parent for parent in Path(own).parents)):
        with suppress(OSError):
            given = (folder / "cgroup.subtree_control").read_text("ascii").split()
            # To move a process one must be able to write to the group that is over both.
            if "memory" in given and os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK):
                return folder
    return None


@dataclass(frozen=True, slots=True)
class Group:
    """A control group of one worker."""

    path: Path

    @classmethod
    def make(cls, parent: Path, name: str, limits: Limits, count: int) -> Group:
        """A new one with these limits; count: processors that a share is of. Raises OSError."""
        group = cls(parent / f"uml-{name}")
        group.path.mkdir(exist_ok=True)
        try:
            if limits.memory_bytes is not None:
                (group.path / "memory.max").write_text(str(limits.memory_bytes), "ascii")
                # The kernel ends all of a worker or nothing of it.
                (group.path / "memory.oom.group").write_text("1", "ascii")
            if limits.cpu_share is not None:
                quota = int(limits.cpu_share * count * PERIOD_US)
                (group.path / "cpu.max").write_text(f"{quota} {PERIOD_US}", "ascii")
        except OSError:
            group.remove()
            raise
        return group

    def oom_kills(self) -> int:
        """How often the kernel has ended a process of it for want of memory."""
        with suppress(OSError):
            for line in (self.path / "memory.events").read_text("ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        return 0

    def remove(self) -> None:
        """End what is left in it, and remove it. What still ends stays for the next start to sweep."""
        with suppress(OSError):
            (self.path / "cgroup.kill").write_text("1", "ascii")
        with suppress(OSError):
            self.path.rmdir()
