"""A child process whose lines are heard as they come, and that ends when nobody wants it any more."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from uml.core.errors import Cancelled

BEAT_S: Final = 0.2
LONGEST_LINE: Final = 4096
GONE_S: Final = 2.0


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    heard: Callable[[str], None],
    *,
    cancelled: Callable[[], bool] = lambda: False,
    beat: Callable[[], None] = lambda: None,
    limit_s: float | None = None,
    keep: Sequence[int] = (),
) -> int:
    """Run a command and give its exit code. keep: descriptors that it holds open too.

    beat: called about five times a second. When it returns, or raises, nothing of the command's group is left.
    Raises Cancelled, TimeoutError after limit_s, OSError.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        # Ctrl-C in a terminal is ours to hear; and its children end with it.
        start_new_session=True,
        pass_fds=tuple(keep),
    )
    assert process.stdout is not None
    end_s = time.monotonic() + limit_s if limit_s else None
    try:
        with process.stdout as pipe, selectors.DefaultSelector() as selector:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ)
            rest = b""
            while True:
                ready = selector.select(BEAT_S)
                if cancelled():
                    raise Cancelled("it was stopped")
                if end_s and time.monotonic() > end_s:
                    raise TimeoutError(f"{argv[0]} did not end within {limit_s:g} s")
                beat()
                if not ready:
                    if process.poll() is not None:
                        break  # something that it started holds the pipe
                    continue
                data = os.read(pipe.fileno(), 1 << 16)
                if not data:
                    break
                *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
                for line in (*lines, *([rest] if len(rest) > LONGEST_LINE else [])):
                    if line.strip():
                        heard(line[:LONGEST_LINE].decode(errors="replace").rstrip())
                rest = rest if len(rest) <= LONGEST_LINE else b""
            if rest.strip():
                heard(rest.decode(errors="replace").rstrip())
        return process.wait()
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of its group, and wait until that has gone: it may hold files open, or still write."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    end_s = time.monotonic() + GONE_S
    with suppress(ProcessLookupError, PermissionError):
        # Its children are the system's to bury now.
        while time.monotonic() < end_s:
            os.killpg(process.pid, 0)
            time.sleep(0.005)
