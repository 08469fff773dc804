"""Stories of loads that fail, workers that die, and memory that runs out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.scheduling.test_scheduler import (
    SIZE,
    asked,
    machine,
    model,
    refused,
    scheduler,
    simple_plan,
    started,
)
from uml.core.errors import (
    DoesNotFit,
    LoadFailed,
    LoadSuspended,
    OutOfMemory,
    Quarantined,
    UnsupportedArchitecture,
    WorkerDied,
)
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.planning.evict import Running, evict
from uml.runtime.scheduling.events import (
    Asked,
    Exited,
    Failed,
    Grant,
    Keep,
    Left,
    Measured,
    Ready,
    Released,
    Start,
    Tick,
)
from uml.runtime.scheduling.policy import Policy
from uml.runtime.scheduling.scheduler import Scheduler

BROKEN = LoadFailed("qwen", "no such tensor")


def failed(error: LoadFailed = BROKEN, times: int = 1) -> tuple[Scheduler, float]:
    """One where loading qwen has failed so often, and the time."""
    s, now_s = scheduler(room_for=1, retry_s=10), 0.0
    for time in range(times):
        now_s = max(now_s, s.retry_at_s("qwen") or 0.0)
        assert started(s.on(asked(time, "qwen"), now_s)) == ["qwen"]
        s.on(Failed("qwen", error), now_s)
        s.on(Measured(machine(SIZE)), now_s)
    return s, now_s


def test_a_failed_load_is_not_tried_again_by_every_request() -> None:
    s, _ = failed()
    for ticket in (10, 11):
        error = refused(s.on(asked(ticket, "qwen"), 4))[ticket]
        assert isinstance(error, LoadSuspended)
        assert error.status == 503
        assert error.details == {"model": "qwen", "cause": "load_failed", "failures": 1, "retry_in_s": 6.0}
        assert "no such tensor (failed once; tried again in 6 s, or at once by: uml load qwen" in error.message
    assert started(s.on(asked(12, "qwen"), 10)) == ["qwen"]


def test_each_failure_doubles_the_pause_up_to_a_limit() -> None:
    for times, pause_s in ((1, 10), (2, 20), (3, 40), (9, 300)):
        s, now_s = failed(times=times)
        assert s.retry_at_s("qwen") == now_s + pause_s


def test_what_time_does_not_heal_is_not_tried_again_soon() -> None:
    s, now_s = failed(UnsupportedArchitecture("qwen", "a new one"))
    assert s.retry_at_s("qwen") == now_s + Policy().retry_limit_s


def test_a_load_that_goes_well_forgets_the_failures() -> None:
    s, now_s = failed(times=3)
    s.on(asked(10, "qwen"), now_s + 40)
    s.on(Ready("qwen"), now_s + 41)
    assert s.retry_at_s("qwen") is None
    assert not s.held_back("qwen")


def changed_file(name: str) -> Model:
    return replace(model(name), created=1_700_000_000)


@pytest.mark.parametrize(
    "request_",
    [
        replace(asked(10, "qwen"), person=True),
        asked(10, "qwen", ctx=1024),
        Asked(10, changed_file("qwen")),
    ],
    ids=["a person", "other options", "a changed file"],
)
def test_who_lifts_the_breaker(request_: Asked) -> None:
    s, _ = failed()
    assert started(s.on(request_, 1)) == ["qwen"]


def test_options_of_ours_do_not_lift_it() -> None:
    s, _ = failed()
    assert isinstance(refused(s.on(asked(10, "qwen", keep_alive="1h"), 1))[10], LoadSuspended)


def test_other_models_are_served_meanwhile() -> None:
    s, _ = failed()
    assert started(s.on(asked(10, "gemma"), 1)) == ["gemma"]


def died(times: int, policy_deaths: int = 3) -> tuple[Scheduler, float]:
    """One in which qwen has died so often after a second of service each, and the time."""
    s, now_s = scheduler(room_for=1, deaths=policy_deaths), 0.0
    for _ in range(times):
        now_s = max(now_s, s.retry_at_s("qwen") or 0.0)
        s.on(asked(1, "qwen"), now_s)
        s.on(Ready("qwen"), now_s)
        s.on(Released(1), now_s + 1)
        now_s += 1
        s.on(Exited("qwen", WorkerDied("qwen", "killed by SIGSEGV")), now_s)
        s.on(Measured(machine(SIZE)), now_s)
    return s, now_s


def test_after_a_first_death_it_is_started_at_once_when_it_is_wanted() -> None:
    s, now_s = died(1)
    assert started(s.on(asked(10, "qwen"), now_s)) == ["qwen"]


def test_after_more_deaths_requests_wait_for_the_pause_to_end() -> None:
    s, now_s = died(2)
    assert s.on(asked(10, "qwen"), now_s) == []
    assert s.places()[0].waits_for == "restart"
    assert s.deadline_s == now_s + 1
    assert started(s.on(asked(11, "gemma"), now_s)) == ["gemma"], "it holds up nobody else"
    assert s.on(Tick(), now_s + 0.5) == []


def test_after_so_many_deaths_only_a_person_or_a_change_starts_it() -> None:
    s, now_s = died(3)
    error = refused(s.on(asked(10, "qwen"), now_s + 1e6))[10]
    assert isinstance(error, Quarantined)
    assert "has died 3 times" in error.message
    assert "killed by SIGSEGV" in error.message
    assert "starts it anew" not in error.message
    assert error.details["cause"] == "worker_died"
    assert s.retry_at_s("qwen") == math.inf
    assert started(s.on(replace(asked(11, "qwen"), person=True), now_s)) == ["qwen"]


def test_who_waits_when_it_dies_for_the_last_time_is_told() -> None:
    s, now_s = died(2)
    now_s += 1
    s.on(asked(1, "qwen", slots=2), now_s)
    s.on(Ready("qwen"), now_s)
    assert s.on(asked(2, "qwen"), now_s) == []
    effects = s.on(Exited("qwen"), now_s)
    assert isinstance(refused(effects)[2], Quarantined)


def test_one_that_is_kept_pauses_after_deaths_like_any_other() -> None:
    s, now_s = died(2)
    assert s.on(Keep(model("qwen"), "pinned"), now_s) == []
    assert s.deadline_s == now_s + 1
    assert started(s.on(Tick(), now_s + 1)) == ["qwen"]


def test_one_in_quarantine_is_not_brought_back_for_being_pinned() -> None:
    s, now_s = died(3)
    assert s.on(Keep(model("qwen"), "pinned"), now_s + 1e6) == []
    assert s.on(Tick(), now_s + 2e6) == []
    assert s.deadline_s == math.inf
    assert isinstance(s.quarantine("qwen"), Quarantined)
    assert s.quarantine("gemma") is None
    s.on(replace(asked(11, "qwen"), person=True), now_s + 2e6)
    assert s.quarantine("qwen") is None


def beside(deaths: int) -> tuple[Scheduler, float]:
    """One in which qwen, small, has died so often, and now big waits for the memory of busy."""
    sizes = {"big": 20, "busy": 20}

    def plan(
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running],
        wants: Sequence[str] = (),
    ) -> LoadPlan:
        size = sizes.get(model.id, 5)
        if (gone := evict(size, machine.memory.free_bytes, running)) is None:
            raise DoesNotFit(model.id, size, machine.memory.free_bytes)
        return LoadPlan(model, "fake", options, Footprint(size, 0, 0), Placement({"cpu": size}), evict=gone)

    s, now_s = Scheduler(plan, machine(30), policy=Policy(deaths=3)), 0.0
    for _ in range(deaths):
        now_s = max(now_s, s.retry_at_s("qwen") or 0.0)
        s.on(asked(1, "qwen"), now_s)
        s.on(Ready("qwen"), now_s)
        s.on(Exited("qwen", WorkerDied("qwen", "killed by SIGSEGV")), now_s)
        s.on(Left(1), now_s)
        s.on(Measured(machine(30)), now_s)
    s.on(asked(2, "busy"), now_s)
    s.on(Ready("busy"), now_s)
    s.on(Measured(machine(10)), now_s)
    assert s.on(asked(3, "big"), now_s) == []
    return s, now_s


def test_a_load_beside_one_that_waits_keeps_its_pause_and_its_quarantine_too() -> None:
    s, now_s = beside(1)
    assert started(s.on(asked(4, "qwen"), now_s)) == ["qwen"]
    s, now_s = beside(2)
    assert s.on(asked(4, "qwen"), now_s) == []
    assert [place.waits_for for place in s.places()] == ["memory", "restart"]
    assert started(s.on(Tick(), s.deadline_s)) == ["qwen"]
    s, now_s = beside(3)
    assert isinstance(refused(s.on(asked(4, "qwen"), now_s + 1e6))[4], Quarantined)


def test_quarantine_can_be_turned_off_and_long_service_makes_up_for_deaths() -> None:
    s, now_s = died(20, policy_deaths=0)
    assert s.retry_at_s("qwen") == now_s + 30, "the pause has a limit"
    s, now_s = died(2)
    now_s += 5
    s.on(asked(1, "qwen"), now_s)
    s.on(Ready("qwen"), now_s)
    s.on(Released(1), now_s)
    s.on(Exited("qwen"), now_s + 700)
    s.on(Measured(machine(SIZE)), now_s + 700)
    assert started(s.on(asked(2, "qwen"), now_s + 700)) == ["qwen"]


def given(effects: list[object]) -> tuple[int, str, tuple[str, ...]]:
    (start,) = (effect for effect in effects if isinstance(effect, Start))
    options = start.plan.options
    return options.ctx, options.cache_type_k, start.plan.warnings


def test_a_load_that_runs_out_of_memory_is_tried_with_less_and_says_so() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen", ctx=2048, degrade="context"), 0)
    assert s.on(Failed("qwen", OutOfMemory("qwen", "cpu")), 1) == [], "who waits goes on waiting"
    ctx, cache, warnings = given([*s.on(Measured(machine(SIZE)), 1)])
    assert (ctx, cache) == (2048, "q8_0")
    assert warnings == ("memory ran out in the load: the cache is q8_0 in place of auto and auto",)
    s.on(Failed("qwen", OutOfMemory("qwen", "cpu")), 2)
    ctx, _, warnings = given([*s.on(Measured(machine(SIZE)), 2)])
    assert ctx == 1024
    assert warnings[1] == "memory ran out in the load: ctx is 1024 in place of 2048"
    assert s.on(Ready("qwen"), 3) == [Grant(1, "qwen")]
    s.on(Released(1), 3)
    assert s.on(asked(2, "qwen", ctx=2048), 4) == [Grant(2, "qwen")], "the same wish has the same answer"


def test_a_worker_that_runs_out_of_memory_again_comes_back_with_less() -> None:
    s, now_s = scheduler(room_for=1), 0.0
    killed = WorkerDied("qwen", "cpu ran out of memory", exit_code=-9, reason="out_of_memory")
    killed.__cause__ = OutOfMemory("qwen", "cpu")
    found = []
    for ticket in range(3):
        now_s += 60
        found.append(given([*s.on(asked(ticket, "qwen", ctx=2048, degrade="context"), now_s)]))
        s.on(Ready("qwen"), now_s)
        s.on(Exited("qwen", killed), now_s)
        s.on(Released(ticket), now_s)
        s.on(Measured(machine(SIZE)), now_s)
    assert [cache for _, cache, _ in found] == ["auto", "auto", "q8_0"], "once, others may have taken it"
    assert found[-1][2] == ("memory ran out in use: the cache is q8_0 in place of auto and auto",)


def test_it_comes_back_with_what_worked_until_a_person_asks_again() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen"), 0)
    s.on(Failed("qwen", OutOfMemory("qwen", "cpu")), 1)
    s.on(Measured(machine(SIZE)), 1)
    s.on(Ready("qwen"), 2)
    s.on(Released(1), 2)
    s.on(Exited("qwen"), 3)
    s.on(Measured(machine(SIZE)), 3)
    assert given([*s.on(asked(2, "qwen"), 4)])[1] == "q8_0"
    s.on(Ready("qwen"), 5)
    s.on(Released(2), 5)
    s.on(Exited("qwen"), 1000)
    s.on(Measured(machine(SIZE)), 1000)
    assert given([*s.on(replace(asked(3, "qwen"), person=True), 1000)])[1] == "auto"


def test_what_may_not_be_less_fails_with_its_cause() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen", degrade="none"), 0)
    assert isinstance(refused(s.on(Failed("qwen", OutOfMemory("qwen", "cpu")), 1))[1], OutOfMemory)
    assert s.retry_at_s("qwen") == 1 + Policy().retry_s


def test_less_and_less_ends_somewhere_and_then_begins_at_the_top() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen", ctx=1 << 20, degrade="context"), 0)
    for _ in range(20):
        if refused(s.on(Failed("qwen", OutOfMemory("qwen", "cpu")), 1)):
            break
        s.on(Measured(machine(SIZE)), 1)
    s.on(Measured(machine(SIZE)), 1)
    assert s.waiting == {}
    assert given([*s.on(asked(2, "qwen", ctx=1 << 20, degrade="context"), 400)])[:2] == (1 << 20, "auto")


def test_the_engine_must_know_what_is_less() -> None:
    s = Scheduler(simple_plan, machine(SIZE), honours=lambda engine: frozenset({"engine"}))
    s.on(asked(1, "qwen"), 0)
    assert refused(s.on(Failed("qwen", OutOfMemory("qwen", "cpu")), 1))


def test_a_model_elsewhere_is_another_file() -> None:
    s, _ = failed()
    moved = replace(model("qwen"), info=replace(model("qwen").info, path=Path("/elsewhere/qwen.gguf")))
    assert started(s.on(Asked(10, moved), 1)) == ["qwen"]
