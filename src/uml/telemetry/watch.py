"""What happens to workers, counted and logged. Fits `uml.runtime.observer.Observer`."""

from __future__ import annotations

import logging
import time

from uml.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Watch:
    """An observer of the supervisor."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._leaving: dict[str, float] = {}
        """Models that make room, and since when."""

    def load_started(self, model: str, engine: str) -> None:
        """A worker is being started."""
        log.info("load started", extra={"model": model, "engine": engine})

    def load_ended(self, model: str, engine: str, seconds: float, error: str | None) -> None:
        """A started worker serves, or does not: `error` is then the code."""
        self._metrics.load(model, engine, seconds, error)
        told = {"model": model, "engine": engine, "seconds": round(seconds, 3)}
        if error is None:
            log.info("ready", extra=told)
        elif error == "cancelled":
            log.info("load cancelled", extra=told)
        else:
            log.warning("load failed", extra={**told, "error": error})

    def worker_measured(self, model: str, engine: str, method: str, predicted_bytes: int, measured_bytes: int) -> None:
        """What a worker that serves needs, and what its plan had said."""
        if measured_bytes > 0:
            self._metrics.estimate(model, engine, method, predicted_bytes, measured_bytes)
        told = {"model": model, "method": method, "predicted_bytes": predicted_bytes, "measured_bytes": measured_bytes}
        log.info("memory measured", extra=told)

    def worker_exited(self, model: str, engine: str, exit_code: int | None) -> None:
        """The process is gone; negative for a signal."""
        self._metrics.exit(model, engine, exit_code)
        if since := self._leaving.pop(model, 0.0):
            self._metrics.evicted(model, engine, time.monotonic() - since)
        log.info("worker ended", extra={"model": model, "engine": engine, "exit_code": exit_code})

    def worker_asleep(self, model: str, engine: str) -> None:
        """It has left the GPUs, and its process stays."""
        if since := self._leaving.pop(model, 0.0):
            self._metrics.evicted(model, engine, time.monotonic() - since)
        log.info("asleep", extra={"model": model, "engine": engine})

    def queue_changed(self, waiting: int) -> None:
        """So many requests wait now."""
        self._metrics.waiting.set(waiting)

    def worker_stopping(self, model: str, engine: str, reason: str) -> None:
        """A worker is told to go."""
        self._metrics.stop(model, reason)
        if reason == "evicted":
            self._leaving[model] = time.monotonic()
        log.info("unloading", extra={"model": model, "engine": engine, "reason": reason})

    def swapped(self, model: str, engine: str, seconds: float) -> None:
        """A model serves in the place of others."""
        self._metrics.swap(model, engine, seconds)
        log.info("swapped in", extra={"model": model, "engine": engine, "seconds": round(seconds, 3)})
