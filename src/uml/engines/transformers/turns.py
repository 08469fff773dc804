"""One model, lent to several threads: a step at a time, in the order in which they ask."""

from __future__ import annotations

import threading
from types import TracebackType


class Turns:
    """A lock that is fair: whoever gives it back and asks again stands behind those who wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._given = 0
        self._now = 0

    def __enter__(self) -> None:
        """Wait for one's turn."""
        with self._changed:
            mine = self._given
            self._given += 1
            self._changed.wait_for(lambda: self._now == mine)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it."""
        with self._changed:
            self._now += 1
            self._changed.notify_all()

    def pass_on(self) -> None:
        """End it, and wait for the next."""
        self.__exit__(None, None, None)
        self.__enter__()
