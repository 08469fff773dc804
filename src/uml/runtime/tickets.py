"""Requests that the scheduler has yet to answer, each with the future of its worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from uml.core.errors import UmlError
from uml.runtime.attended import Attended


class Tickets:
    """Draws tickets, and wakes who waits with one. Knows nothing of one that was granted, refused or torn up."""

    def __init__(self) -> None:
        self._pending: dict[int, asyncio.Future[Attended]] = {}
        self._drawn = count(1)

    def draw(self) -> int:
        """A new one."""
        return next(self._drawn)

    def wait(self, ticket: int) -> asyncio.Future[Attended]:
        """What will be its worker, or raise why it gets none."""
        granted = self._pending[ticket] = asyncio.get_running_loop().create_future()
        return granted

    def grant(self, ticket: int, worker: Attended) -> None:
        """This worker is the ticket's."""
        future = self._pending.pop(ticket, None)
        if future is not None and not future.done():
            future.set_result(worker)

    def refuse(self, ticket: int, error: UmlError) -> None:
        """The ticket gets none."""
        future = self._pending.pop(ticket, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def tear(self, ticket: int) -> None:
        """Nobody waits with this one any more."""
        self._pending.pop(ticket, None)

    def refuse_all(self, error: Callable[[], UmlError]) -> None:
        """None of them gets a worker; each gets an error of its own."""
        for ticket in tuple(self._pending):
            self.refuse(ticket, error())
