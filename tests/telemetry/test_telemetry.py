"""Lines for people, figures for Prometheus."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from uml.core.plan import WorkerStatus
from uml.telemetry.logs import setup
from uml.telemetry.metrics import Metrics
from uml.telemetry.watch import Watch


@pytest.fixture
def loggers() -> Iterator[None]:
    kept = {name: logging.getLogger(name) for name in ("uml", "uvicorn")}
    before = {name: (logger.handlers, logger.propagate, logger.level) for name, logger in kept.items()}
    yield
    for name, (handlers, propagate, level) in before.items():
        kept[name].handlers, kept[name].propagate = handlers, propagate
        kept[name].setLevel(level)


def lines(json_lines: bool | None) -> list[str]:
    stream = io.StringIO()
    setup("info", json_lines, stream)
    log = logging.getLogger("uml.somewhere")
    log.debug("not told")
    log.info("ready", extra={"model": "demo", "seconds": 0.5})
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("internal error", extra={"request": "1f"})
    logging.getLogger("uvicorn.error").info("Started server process")
    return stream.getvalue().splitlines()


@pytest.mark.usefixtures("loggers")
def test_plain_lines() -> None:
    first, second, *trace = lines(False)
    assert first.endswith("info     ready  model=demo  seconds=0.5")
    assert second.endswith("error    internal error  request=1f")
    assert trace[-1] == "ValueError: broken"


@pytest.mark.usefixtures("loggers")
def test_json_lines_where_nobody_watches() -> None:
    first, second = (json.loads(line) for line in lines(None))
    assert (first["level"], first["message"], first["model"], first["seconds"]) == ("info", "ready", "demo", 0.5)
    assert second["request"] == "1f" and "ValueError: broken" in second["traceback"]


@pytest.mark.usefixtures("loggers")
def test_workers_are_counted_and_told() -> None:
    stream = io.StringIO()
    setup("info", True, stream)
    metrics = Metrics()
    watch = Watch(metrics)
    watch.queue_changed(3)
    watch.load_started("demo", "fake")
    watch.load_ended("demo", "fake", 1.5, None)
    watch.load_ended("demo", "fake", 0.1, "out_of_memory")
    watch.load_ended("demo", "fake", 0.1, "cancelled")
    watch.worker_exited("demo", "fake", -9)
    watch.worker_exited("demo", "fake", None)
    text = metrics.render().decode()
    assert "uml_requests_waiting 3.0" in text
    assert 'uml_load_seconds_count{engine="fake",model="demo",outcome="ready"} 1.0' in text
    assert 'uml_load_seconds_count{engine="fake",model="demo",outcome="out_of_memory"} 1.0' in text
    assert 'uml_worker_exits_total{engine="fake",exit_code="-9",model="demo"} 1.0' in text
    told = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert told == ["load started", "ready", "load failed", "load cancelled", "worker ended", "worker ended"]


def test_evictions_swaps_and_the_error_of_estimates_are_histograms() -> None:
    metrics = Metrics()
    watch = Watch(metrics)
    watch.worker_stopping("old", "fake", "evicted")
    watch.worker_stopping("other", "fake", "idle")
    for model in ("old", "other", "never told"):
        watch.worker_exited(model, "fake", 0)
    watch.swapped("new", "fake", 1.5)
    for predicted in (90, 103, 100):
        watch.worker_measured("new", "fake", "dry run", predicted, 100)
    watch.worker_measured("new", "fake", "dry run", 100, 0)
    text = metrics.render().decode()
    assert 'uml_evict_seconds_count{engine="fake",model="old"} 1.0' in text
    assert 'uml_evict_seconds_count{engine="fake",model="other"}' not in text
    assert 'uml_worker_stops_total{model="other",reason="idle"} 1.0' in text
    assert 'uml_swap_seconds_sum{engine="fake",model="new"} 1.5' in text
    labels = 'method="dry run",model="new"}'
    assert f'uml_estimate_error_ratio_count{{engine="fake",{labels} 3.0' in text
    for bound, count in (("-0.2", 0), ("-0.05", 1), ("0.0", 2), ("0.02", 2), ("0.05", 3)):
        assert f'uml_estimate_error_ratio_bucket{{engine="fake",le="{bound}",{labels} {count}.0' in text


def test_requests_tokens_and_workers_are_counted() -> None:
    metrics = Metrics()
    metrics.workers = lambda: (WorkerStatus("demo", "fake", "ready", 1, memory_bytes=5, slots=4),)
    metrics.in_flight += 1
    for _ in range(2):
        metrics.request("/v1/chat/completions", "demo", 200, 0.2)
        metrics.answer("demo", 0.0, 0.1, 15, 8)
    metrics.answer("demo", 0.0, None, 1, 1)
    text = metrics.render().decode()
    assert 'uml_requests_total{model="demo",route="/v1/chat/completions",status="200"} 2.0' in text
    assert 'uml_tokens_total{kind="completion",model="demo"} 17.0' in text
    assert 'uml_first_token_seconds_count{model="demo"} 2.0' in text
    assert 'uml_worker_memory_bytes{engine="fake",model="demo",state="ready"} 5.0' in text
    assert 'uml_worker_slots{engine="fake",model="demo",state="ready"} 4.0' in text
    assert "uml_requests_in_flight 1.0" in text
    assert "_created" not in text
