"""What is shown of workers and loads: what their process, the workforce and the scheduler know, put together."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from uml.core.plan import Progress, Stage, WorkerStatus
from uml.runtime.attended import Attended
from uml.runtime.scheduling.queue import Place
from uml.runtime.scheduling.scheduler import Scheduler
from uml.runtime.workforce import Workforce


def status(worker: Attended, workforce: Workforce, scheduler: Scheduler) -> WorkerStatus:
    """A worker that is there, or one that ended by itself."""
    model = worker.plan.model.id
    scheduled = scheduler.workers.get(model)
    mine = scheduled is not None and workforce.live.get(model) is worker
    in_flight = sum(1 for slots in scheduled.holders.values() if slots) if scheduled and mine else 0
    now_s, retry_at_s = time.monotonic(), scheduler.retry_at_s(model) or 0.0
    leaves_in_s = scheduler.expires_s(model) - now_s if mine else math.inf
    # What its last end said of the next request is not so any more.
    quarantine = None if mine else scheduler.quarantine(model)
    shown = worker.status(in_flight, scheduler.queued(model))
    return replace(
        shown,
        error=quarantine.as_dict()["error"] if quarantine else shown.error,
        kept=scheduler.kept(model),
        unloads_in_s=max(0.0, leaves_in_s) if leaves_in_s < math.inf else None,
        retry_in_s=max(0.0, retry_at_s - now_s) if not mine and retry_at_s < math.inf else None,
    )


def progress(model: str, workforce: Workforce, place: Place | None, began_s: float, *, settling: bool) -> Progress:
    """How far a load is that began at this moment of `time.monotonic`.

    place: in the queue. settling: memory of a worker that left is coming back.
    """
    seconds = time.monotonic() - began_s
    worker = workforce.live.get(model)
    if worker is None or worker.told or worker.ready_at:
        leaving = settling or any(other.told for other in workforce.live.values())
        waits = Progress(model, "evicting" if leaving else "queued", seconds=seconds)
        if place is None:
            return waits
        return replace(
            waits,
            queue_position=place.position,
            waits_for=place.waits_for,
            held_by=place.held_by,
            reason=place.reason,
        )
    meter = worker.process.look()
    stage: Stage = "loading"
    if worker.process.pid is None:
        stage = "converting" if worker.process.state == "converting" else "starting"
    return Progress(model, stage, meter.bytes, meter.total_bytes, meter.percent, seconds)
