"""What happens to workers, told to whoever counts it."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Called on the event loop in the middle of the work: quick, and never raising."""

    def load_started(self, model: str, engine: str) -> None:
        """A worker is being started."""
        ...

    def load_ended(self, model: str, engine: str, seconds: float, error: str | None) -> None:
        """A started worker serves, or does not: `error` is then the code, `cancelled` where it was stopped."""
        ...

    def worker_measured(self, model: str, engine: str, method: str, predicted_bytes: int, measured_bytes: int) -> None:
        """What a worker that serves needs, and what its plan had said, by this method; once a worker."""
        ...

    def worker_stopping(self, model: str, engine: str, reason: str) -> None:
        """A worker is told to end; the reasons are those of `events.Stop`."""
        ...

    def worker_exited(self, model: str, engine: str, exit_code: int | None) -> None:
        """The process is gone; negative for a signal, None where there never was one."""
        ...

    def worker_asleep(self, model: str, engine: str) -> None:
        """The process has given its GPUs back, and stays until it is woken or its memory is needed."""
        ...

    def queue_changed(self, waiting: int) -> None:
        """So many requests wait now."""
        ...

    def swapped(self, model: str, engine: str, seconds: float) -> None:
        """A model serves in the place of others: from the moment that the first of them was told to go."""
        ...


class Unobserved:
    """An observer that counts nothing."""

    def load_started(self, model: str, engine: str) -> None:
        """Not counted."""

    def load_ended(self, model: str, engine: str, seconds: float, error: str | None) -> None:
        """Not counted."""

    def worker_measured(self, model: str, engine: str, method: str, predicted_bytes: int, measured_bytes: int) -> None:
        """Not counted."""

    def worker_stopping(self, model: str, engine: str, reason: str) -> None:
        """Not counted."""

    def worker_exited(self, model: str, engine: str, exit_code: int | None) -> None:
        """Not counted."""

    def worker_asleep(self, model: str, engine: str) -> None:
        """Not counted."""

    def queue_changed(self, waiting: int) -> None:
        """Not counted."""

    def swapped(self, model: str, engine: str, seconds: float) -> None:
        """Not counted."""
