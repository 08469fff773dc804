"""Waiting for what comes about by itself: asked for again and again, and never slept for.

A limit here only tells slow from never; how fast something is, benchmarks measure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 45.0
"""Below the time that a whole test has, so that one that fails says what it waited for."""
GLANCE_S: Final = 0.005
"""Between two looks at something in another process, which can tell nobody that it has changed."""


def eventually(
    condition: Callable[[], object],
    says: Callable[[], str] | str = "it did not come about",
    limit_s: float = PATIENCE_S,
) -> None:
    """Wait until something is so; fail with what `says` is, or gives then."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, says() if callable(says) else says
        time.sleep(GLANCE_S)


async def until(condition: Callable[[], object]) -> None:
    """The same on an event loop, which goes on meanwhile."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # most of it is in another process
            await asyncio.sleep(GLANCE_S)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
