"""Figures for Prometheus, in a registry of our own; a request costs a few microseconds of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from uml.core.plan import WorkerStatus

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_EVICTION_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

_ERRORS: Final = (-0.5, -0.2, -0.1, -0.05, -0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""An estimate that is too low may crash, one that is too high evicts for nothing: both sides are told apart."""


class Metrics:
    """Everything counted since the start.

    workers: asked for the state of all workers at every scrape; set when there is somebody to ask.
    """

    def __init__(self) -> None:
        self.workers: Callable[[], Sequence[WorkerStatus]] = tuple
        # The moment at which each child was made would double the page.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.in_flight = 0
        """Requests being answered: a plain number, looked at when somebody asks."""
        Gauge("uml_requests_in_flight", "Requests being answered", registry=self.registry).set_function(
            lambda: self.in_flight
        )
        self.waiting = Gauge("uml_requests_waiting", "Requests that wait for a model", registry=self.registry)
        self._count_requests()
        self._count_workers()
        self.registry.register(_Workers(self))
        ProcessCollector(registry=self.registry)
        # Children by label values: looking one up in the library takes longer than counting.
        self._by_request: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self._by_model: dict[str, tuple[Any, Any, Any, Any]] = {}

    def _count_requests(self) -> None:
        self._requests = self._counter("uml_requests", "Requests answered", "route", "model", "status")
        self._tokens = self._counter("uml_tokens", "Tokens by kind", "model", "kind")
        self._seconds = self._histogram("uml_request_seconds", "From a request's arrival to its last byte", "route")
        self._first = self._histogram(
            "uml_first_token_seconds", "From a streamed request's arrival to the first byte of its answer", "model"
        )
        self._queue = self._histogram("uml_queue_seconds", "Time a request waited for a free slot or a load", "model")

    def _count_workers(self) -> None:
        self._stops = self._counter("uml_worker_stops", "Workers that were told to go, by reason", "model", "reason")
        self._exits = self._counter("uml_worker_exits", "Worker processes that ended", "model", "engine", "exit_code")
        self._loads = self._histogram(
            "uml_load_seconds",
            "From the start of a worker to its end or to ready; outcome: ready, or the code of the error",
            *("model", "engine", "outcome"),
        )
        self._swaps = self._histogram(
            "uml_swap_seconds",
            "From the moment that models were told to make room to the moment that the new one served",
            *("model", "engine"),
        )
        self._evictions = self._histogram(
            "uml_evict_seconds",
            "From the moment that an idle model was told to make room to the end of its process",
            *("model", "engine"),
            buckets=_EVICTION_SECONDS,
        )
        self._estimates = self._histogram(
            "uml_estimate_error_ratio",
            "Memory that was predicted for a load over what it took, less 1; below 0 it was too little; "
            "method: header, dry run, corrected or measured",
            *("model", "engine", "method"),
            buckets=_ERRORS,
        )

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, *labels: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        return Histogram(name, help, labels, buckets=buckets, registry=self.registry)

    def request(self, route: str, model: str, status: int, seconds: float) -> None:
        """A request is over. route: the pattern, not the path; model: an id, or empty."""
        key = (route, model, status)
        children = self._by_request.get(key)
        if children is None:
            children = self._requests.labels(route, model, str(status)), self._seconds.labels(route)
            self._by_request[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def answer(self, model: str, queue_s: float, first_s: float | None, prompt: int, completion: int) -> None:
        """A model has answered. first_s: None where the answer was not streamed."""
        queue, first, prompts, completions = self._by_model.get(model) or self._model(model)
        queue.observe(queue_s)
        if first_s is not None:
            first.observe(first_s)
        prompts.inc(prompt)
        completions.inc(completion)

    def load(self, model: str, engine: str, seconds: float, error: str | None) -> None:
        """A load is over; error: its code, None for a worker that serves."""
        self._loads.labels(model, engine, error or "ready").observe(seconds)

    def stop(self, model: str, reason: str) -> None:
        """A worker is told to go."""
        self._stops.labels(model, reason).inc()

    def swap(self, model: str, engine: str, seconds: float) -> None:
        """A model serves in the place of others."""
        self._swaps.labels(model, engine).observe(seconds)

    def evicted(self, model: str, engine: str, seconds: float) -> None:
        """An idle model is gone that had to make room."""
        self._evictions.labels(model, engine).observe(seconds)

    def estimate(self, model: str, engine: str, method: str, predicted_bytes: int, measured_bytes: int) -> None:
        """A loaded model was weighed. measured_bytes: above 0."""
        self._estimates.labels(model, engine, method).observe(predicted_bytes / measured_bytes - 1)

    def exit(self, model: str, engine: str, exit_code: int | None) -> None:
        """A worker process has ended."""
        self._exits.labels(model, engine, "" if exit_code is None else str(exit_code)).inc()

    def render(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _model(self, model: str) -> tuple[Any, Any, Any, Any]:
        children = (
            self._queue.labels(model),
            self._first.labels(model),
            self._tokens.labels(model, "prompt"),
            self._tokens.labels(model, "completion"),
        )
        self._by_model[model] = children
        return children


class _Workers(Collector):
    """The workers as they are at the moment of a scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of a scrape: which workers there are is not known before."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Every figure of every worker."""
        workers = self._metrics.workers()
        for name, help, value in (
            ("uml_worker_memory_bytes", "Resident memory of a worker", lambda w: w.memory_bytes),
            ("uml_worker_predicted_bytes", "What its plan said that a worker takes", lambda w: w.estimated_bytes),
            ("uml_worker_measured_bytes", "What a worker needs in use, as measured", lambda w: w.measured_bytes),
            ("uml_worker_peak_bytes", "Most that was resident while a worker loaded", lambda w: w.peak_bytes),
            ("uml_worker_in_flight", "Requests a worker is answering", lambda w: w.in_flight),
            ("uml_worker_queued", "Requests waiting for a worker", lambda w: w.queued),
            (
                "uml_worker_restored_tokens",
                "Tokens of earlier conversations that were read back when a worker was loaded",
                lambda w: w.restored_tokens,
            ),
            ("uml_worker_slots", "Requests a worker answers at the same time", lambda w: w.slots),
        ):
            family = GaugeMetricFamily(name, help, labels=("model", "engine", "state"))
            for worker in workers:
                labels = (worker.model, worker.engine, worker.state)
                family.add_metric(labels, value(worker))  # type: ignore[no-untyped-call]
            yield family
