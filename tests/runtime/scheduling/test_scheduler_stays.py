"""Stories of how long models stay: idle times, pins, preloading, and who leaves before whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tests.runtime.scheduling.test_scheduler import SIZE, asked, machine, model, scheduler, started
from uml.core.errors import DoesNotFit, LoadFailed
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.planning.evict import Running, evict
from uml.runtime.scheduling.events import (
    Asked,
    BetterLater,
    Effect,
    Exited,
    Failed,
    Grant,
    Keep,
    Left,
    Measured,
    Missed,
    Ready,
    Refuse,
    Released,
    Start,
    Stop,
    Tick,
    Unload,
)
from uml.runtime.scheduling.scheduler import Scheduler


def reasons(effects: list[Effect]) -> dict[str, str]:
    return {effect.model: effect.reason for effect in effects if isinstance(effect, Stop)}


def for_s(ticket: int, name: str, keep_alive_s: float) -> Asked:
    return replace(asked(ticket, name), keep_alive_s=keep_alive_s)


def served(s: Scheduler, request: Asked, now_s: float) -> list[Effect]:
    s.on(request, now_s)
    return s.on(Released(request.ticket), now_s)


def test_an_idle_model_leaves_when_its_time_is_over() -> None:
    s = scheduler("qwen", room_for=1, idle_unload_s=60)
    served(s, asked(1, "qwen"), 100)
    assert s.deadline_s == 160
    assert s.on(Tick(), 159.9) == []
    assert reasons(s.on(Tick(), 160)) == {"qwen": "idle"}


def test_a_busy_model_is_not_idle_however_long_it_takes() -> None:
    s = scheduler("qwen", room_for=1, idle_unload_s=60)
    s.on(asked(1, "qwen"), 10)
    assert s.deadline_s == math.inf
    assert s.on(Tick(), 10_000) == []
    assert s.on(Released(1), 10_000) == []
    assert s.deadline_s == 10_060


def test_a_request_says_how_long_the_model_stays_from_now_on() -> None:
    s = scheduler("qwen", room_for=1, idle_unload_s=60)
    served(s, for_s(1, "qwen", 300), 0)
    assert s.deadline_s == 300
    served(s, asked(2, "qwen"), 100)
    assert s.deadline_s == 400, "who says nothing changes nothing"
    served(s, for_s(3, "qwen", math.inf), 200)
    assert s.deadline_s == math.inf
    assert reasons(served(s, for_s(4, "qwen", 0), 300)) == {"qwen": "idle"}, "0: gone when it is done"


def test_how_long_it_stays_outlives_a_worker_that_died_or_was_in_the_way() -> None:
    s = scheduler("qwen", room_for=1, idle_unload_s=60)
    served(s, for_s(1, "qwen", 300), 0)
    s.on(Exited("qwen", LoadFailed("qwen", "it died")), 10)
    s.on(Measured(machine(SIZE)), 10)
    s.on(asked(2, "qwen"), 10)
    s.on(Ready("qwen"), 10)
    s.on(Released(2), 10)
    assert s.deadline_s == 310
    s.on(Tick(), 310)
    s.on(Exited("qwen"), 310)
    s.on(Measured(machine(SIZE)), 310)
    s.on(asked(3, "qwen"), 400)
    s.on(Ready("qwen"), 400)
    s.on(Released(3), 400)
    assert s.deadline_s == 460, "that time is over: the next one is as usual"


def test_who_waits_for_a_model_is_served_before_it_leaves() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(replace(for_s(1, "qwen", 0), slots=2), 0)
    s.on(asked(2, "qwen"), 1)
    assert s.on(Released(1), 2) == [Grant(2, "qwen")]
    assert reasons(s.on(Released(2), 3)) == {"qwen": "idle"}


def test_options_say_it_too_and_load_nothing_anew() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen", keep_alive="5m"), 0)
    s.on(Ready("qwen"), 10)
    s.on(Released(1), 20)
    assert s.expires_s("qwen") == 320
    assert s.on(asked(2, "qwen", keep_alive="10s", keep_weight=3.0), 30) == [Grant(2, "qwen")]
    s.on(Released(2), 40)
    assert (s.expires_s("qwen"), s.expires_s("nobody")) == (50, math.inf)


def test_a_load_that_nobody_waits_for_any_more_is_not_kept_for_ever() -> None:
    s = scheduler(room_for=1, idle_unload_s=60)
    s.on(asked(1, "qwen"), 0)
    s.on(Left(1), 1)
    s.on(Ready("qwen"), 5)
    assert reasons(s.on(Tick(), 65)) == {"qwen": "idle"}


def test_of_two_idle_models_the_one_that_loads_sooner_leaves() -> None:
    s = scheduler(room_for=2)
    for name, load_s in (("slow", 30.0), ("quick", 1.0)):
        s.on(asked(1, name), 0)
        s.on(Ready(name), load_s)
        s.on(Released(1), 40)
    s.on(Measured(machine(0)), 50)
    assert reasons(s.on(asked(2, "third"), 50)) == {"quick": "evicted"}


def test_a_dear_model_stays_before_a_cheap_one() -> None:
    s = scheduler(room_for=2)
    for name, weight in (("dear", 5.0), ("cheap", 1.0)):
        s.on(asked(1, name, keep_weight=weight), 0)
        s.on(Ready(name), 1)
        s.on(Released(1), 1)
    s.on(asked(2, "cheap"), 20)
    s.on(Released(2), 20)
    s.on(Measured(machine(0)), 30)
    assert reasons(s.on(asked(3, "third"), 30)) == {"cheap": "evicted"}


def test_a_pinned_model_neither_makes_room_nor_grows_old() -> None:
    s = scheduler("qwen", room_for=1, idle_unload_s=60)
    s.on(Keep(model("qwen"), "pinned"), 0)
    assert s.on(Tick(), 1000) == []
    (refused,) = s.on(asked(1, "gemma"), 1000)
    assert isinstance(refused, Refuse)
    assert isinstance(refused.error, DoesNotFit)
    assert s.on(Keep(model("qwen"), ""), 1001) == []
    assert s.deadline_s == 1061, "its time begins when it is let go"
    assert reasons(s.on(asked(2, "gemma"), 1002)) == {"qwen": "evicted"}


def test_nobody_is_refused_for_memory_that_a_load_was_measured_with_and_is_promised_besides() -> None:
    s = scheduler("gemma", room_for=2)
    assert started(s.on(asked(1, "qwen"))) == ["qwen"]
    assert reasons(s.on(asked(2, "llama"))) == {"gemma": "evicted"}
    s.on(Exited("gemma"))
    assert s.on(Measured(machine(SIZE))) == [], "qwen has all its memory, and still loads"
    s.on(Keep(model("qwen"), "pinned"))
    assert s.on(Ready("qwen")) == [Grant(1, "qwen")]
    assert started(s.on(Measured(machine(SIZE)))) == ["llama"]


def test_preloaded_models_load_side_by_side_as_memory_allows() -> None:
    s = scheduler(room_for=2)
    assert started(s.on(Keep(model("a"), "preloaded"))) == ["a"]
    assert started(s.on(Keep(model("b"), "preloaded"))) == ["b"]
    (missed,) = s.on(Keep(model("c"), "preloaded"))
    assert isinstance(missed, Missed)
    assert (missed.model, missed.error.code) == ("c", "does_not_fit")
    assert s.on(Tick()) == [], "it is told once"
    s.on(Ready("a"))
    s.on(Ready("b"))
    assert started(s.on(Measured(machine(SIZE)))) == ["c"]


def test_a_preloaded_model_leaves_for_a_request_and_comes_back_when_there_is_room() -> None:
    s = scheduler(room_for=1, idle_unload_s=60)
    s.on(Keep(model("qwen"), "preloaded"), 0)
    s.on(Ready("qwen"), 1)
    s.on(Measured(machine(0)), 1)
    assert reasons(s.on(asked(1, "gemma"), 2)) == {"qwen": "evicted"}
    s.on(Exited("qwen"), 3)
    assert started(s.on(Measured(machine(SIZE)), 3)) == ["gemma"]
    s.on(Ready("gemma"), 4)
    s.on(Released(1), 5)
    assert reasons(s.on(Tick(), 65)) == {"gemma": "idle"}
    s.on(Exited("gemma"), 66)
    assert started(s.on(Measured(machine(SIZE)), 66)) == ["qwen"]


def test_a_pinned_model_comes_back_after_a_death() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(Keep(model("qwen"), "pinned"))
    s.on(Exited("qwen"))
    assert started(s.on(Measured(machine(SIZE)))) == ["qwen"]


def test_a_kept_model_that_fails_is_tried_again_in_its_time() -> None:
    s = scheduler(room_for=1, retry_s=10)
    s.on(Keep(model("qwen"), "preloaded"), 0)
    s.on(Failed("qwen", LoadFailed("qwen", "not today")), 1)
    assert s.on(Measured(machine(SIZE)), 2) == []
    assert s.deadline_s == 11
    assert started(s.on(Tick(), 11)) == ["qwen"]


def test_what_was_pinned_before_comes_with_the_options_that_it_had() -> None:
    pinned = Keep(model("qwen"), "pinned", LoadOptions.parse({"ctx": 2048}))
    s = scheduler("gemma", room_for=1)
    assert [type(effect) for effect in s.on(pinned)] == [Missed], "it evicts nobody"
    s.on(asked(1, "qwen"))
    s.on(Exited("gemma"))
    (start,) = s.on(Measured(machine(SIZE)))
    assert isinstance(start, Start)
    assert start.plan.options.ctx == 2048, "as for a request that says nothing of them"
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen", ctx=1024))
    s.on(Ready("qwen"))
    s.on(pinned)
    s.on(Released(1))
    s.on(Exited("qwen", LoadFailed("qwen", "it died")))
    (start,) = s.on(Measured(machine(SIZE)))
    assert isinstance(start, Start)
    assert start.plan.options.ctx == 1024, "what has happened since is news"


def test_unloading_says_that_it_is_not_wanted_back() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(Keep(model("qwen"), "pinned"))
    assert s.kept("qwen") == "pinned"
    assert reasons(s.on(Unload(("qwen",)))) == {"qwen": "unloaded"}
    s.on(Exited("qwen"))
    assert s.on(Measured(machine(SIZE))) == []
    assert s.kept("qwen") == ""


def test_a_load_beside_one_that_waits_takes_nothing_from_it() -> None:
    sizes = {"big": 30, "busy": 30, "small": 5, "other": 30}

    def plan(
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running],
        wants: Sequence[str] = (),
    ) -> LoadPlan:
        size = sizes[model.id]
        gone = evict(size, machine.memory.free_bytes, running)
        if gone is None:
            raise DoesNotFit(model.id, size, machine.memory.free_bytes)
        placed = Placement({"cpu": size})
        return LoadPlan(
            model, "fake", replace(options, parallel=1), Footprint(size, 0, 0), placement=placed, evict=gone
        )

    s = Scheduler(plan, machine(36))
    s.on(asked(1, "busy"))
    s.on(Ready("busy"))
    s.on(Measured(machine(6)))
    assert s.on(asked(2, "big")) == []
    assert s.on(asked(3, "other")) == [], "there is no room for it"
    assert started(s.on(asked(4, "small"))) == ["small"], "big fits beside it once busy is done"
    assert [place.waits_for for place in s.places()] == ["memory", "memory", "load"]
    sizes["big"] = 33
    s.on(Left(4, abandon=True))
    s.on(Exited("small"))
    s.on(Measured(machine(6)))
    assert s.on(asked(5, "small")) == [], "it would take what big needs"
    assert Start not in map(type, s.on(Tick()))
    assert s.on(Released(1)) == [Stop("busy")]


def test_what_is_to_be_there_takes_what_is_free_and_a_request_waits_for_better() -> None:
    def plan(
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running],
        wants: Sequence[str] = (),
    ) -> LoadPlan:
        placed = Placement({"cpu": SIZE})
        made = LoadPlan(model, "fake", replace(options, parallel=1), Footprint(SIZE, 0, 0), placement=placed)
        if any(one.busy for one in running):
            raise BetterLater(DoesNotFit(model.id, 2 * SIZE, SIZE), made)
        return replace(made, evict=tuple(one.model for one in running))

    s = Scheduler(plan, machine(2 * SIZE))
    s.on(asked(1, "qwen"))
    s.on(Ready("qwen"))
    assert started(s.on(Keep(model("gemma"), "preloaded"))) == ["gemma"]
    s.on(Ready("gemma"))
    s.on(Unload(("gemma",)))
    s.on(Exited("gemma"))
    s.on(Measured(machine(2 * SIZE)))
    assert s.on(asked(2, "gemma")) == []
    assert [place.waits_for for place in s.places()] == ["memory"]
    assert s.on(Released(1)) == [Stop("qwen")]


def test_options_of_ours_are_not_reasons_to_load_again() -> None:
    plain = LoadOptions()
    assert plain.loads_as(LoadOptions.parse({"keep_alive": 0, "keep_weight": 2, "degrade": "none"}))
    assert not plain.loads_as(LoadOptions(ctx=512))
