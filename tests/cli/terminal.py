"""A program at a terminal: what a user types and sees."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.waiting import PATIENCE_S

_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`uml` with a terminal on all three streams."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self.raw = ""
        self._seen = 0

    @property
    def text(self) -> str:
        """All that was shown, without colours and movements of the cursor."""
        return _STYLE.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def enter(self, line: str) -> None:
        self.type(line + "\n")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def interrupt_until(self, words: str) -> None:
        """Ctrl-C at a prompt, again where nothing comes of it, as a user would.

        Python loses a signal that comes in the moment between the prompt and the wait for a key.
        """
        for _ in range(20):
            self.interrupt()
            with contextlib.suppress(AssertionError):
                self.expect(words, 1.0)
                return
        raise AssertionError(f"{words!r} was not shown; this was:\n{self.text[self._seen :]}")

    def expect(self, words: str, timeout_s: float = PATIENCE_S) -> str:
        """Wait until this is shown, after what was expected last; gives what came before it."""
        end = time.monotonic() + timeout_s
        while (at := self.text.find(words, self._seen)) < 0:
            left = end - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"{words!r} was not shown; this was:\n{self.text[self._seen :]}")
        before, self._seen = self.text[self._seen : at], at + len(words)
        return before

    def leave(self, timeout_s: float = PATIENCE_S) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + timeout_s
        while self._read(max(0.0, end - time.monotonic())):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        try:
            data = os.read(self._master, 65536) if ready else b""
        except OSError:  # the other end has gone
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "uml", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment},
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
