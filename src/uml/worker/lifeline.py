"""A worker must not outlive its parent: it would keep the memory, or the GPU."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when the thread that started it ends (prctl(2)).

    It works while a library holds the interpreter's lock, and survives an exec.
    """
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it went before the kernel was told


def read_line(descriptor: int) -> bytes:
    """One line, without buffering what comes after it; empty at the end of the pipe."""
    parts = []
    while part := os.read(descriptor, 1 << 16):
        parts.append(part)
        if part.endswith(b"\n"):
            break
    return b"".join(parts)


def has_ended(descriptor: int) -> bool:
    """Whether nobody holds the other end of a pipe that was read to the end of its line."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def die_without(descriptor: int) -> None:
    """Wait for the end of the pipe and end the process with it, whatever it is doing."""
    while os.read(descriptor, 1 << 12):
        pass
    os._exit(0)
