"""The thread in which the generator lives: it is asked for step after step, and never from two places at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, Protocol

Result = Mapping[str, Any]


class Generator(Protocol):
    """What both libraries' dynamic generators have."""

    def enqueue(self, job: Any) -> object:
        """Put a job into the queue."""
        ...

    def cancel(self, job: Any) -> None:
        """Take a job out of it, wherever it is."""
        ...

    def iterate(self) -> list[dict[str, Any]]:
        """One step for every job: what it made."""
        ...

    def num_remaining_jobs(self) -> int:
        """Jobs that wait or run."""
        ...


class Running:
    """One job, and where its results go: to the event loop of who asked."""

    def __init__(self, job: Any) -> None:
        self.job = job
        self._loop = asyncio.get_running_loop()
        self.results: asyncio.Queue[Result | BaseException] = asyncio.Queue()

    def give(self, result: Result | BaseException) -> None:
        """Hand a result over; from the generator's thread."""
        self._loop.call_soon_threadsafe(self.results.put_nowait, result)


class Runner:
    """Steps the generator while there are jobs, and sleeps else.

    fatal: told of an exception of a step, after which the generator cannot be trusted; must end the process.
    """

    def __init__(self, generator: Generator, fatal: Callable[[BaseException], None]) -> None:
        self._generator = generator
        self._fatal = fatal
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._running: dict[int, Running] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name="exllama")
        self._thread.start()

    def start(self, running: Running) -> None:
        """Have a job done."""
        self._orders.put(lambda: self._enqueue(running))

    def leave(self, running: Running) -> None:
        """Nobody waits for it any more: it ends before the next step."""
        self._orders.put(lambda: self._cancel(running))

    def close(self) -> None:
        """End the thread after the step that runs."""
        self._orders.put(None)
        self._thread.join(timeout=5)

    def _enqueue(self, running: Running) -> None:
        try:
            self._generator.enqueue(running.job)
            self._running[id(running.job)] = running
        except Exception as error:
            # The library's own refusal, as of a job that is longer than the cache: it is this request's.
            running.give(error)

    def _cancel(self, running: Running) -> None:
        if self._running.pop(id(running.job), None) is not None:
            self._generator.cancel(running.job)

    def _run(self) -> None:
        while True:
            idle = not self._generator.num_remaining_jobs()
            try:
                order = self._orders.get(block=idle)
            except Empty:
                self._step()
                continue
            if order is None:
                return
            order()

    def _step(self) -> None:
        try:
            results = self._generator.iterate()
        except Exception as error:
            # Whatever it was, it is no one job's: all of them end with it.
            for running in self._running.values():
                running.give(error)
            self._running.clear()
            self._fatal(error)
            return
        for result in results:
            found = self._running.get(id(result["job"]))
            if found is None:
                continue
            if result.get("stage") == "error" or result["eos"]:
                del self._running[id(result["job"])]
            found.give(result["error"] if result.get("stage") == "error" else result)
