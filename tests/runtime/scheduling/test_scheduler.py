"""Stories of who is served, who waits and who leaves; no process, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from uml.core.errors import BadOption, Cancelled, DoesNotFit, LoadFailed, Overloaded, UmlError
from uml.core.machine import Device, Machine
from uml.core.model import Format, Model, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.planning.evict import Running, evict
from uml.runtime.scheduling.events import (
    Asked,
    Effect,
    Exited,
    Failed,
    Grant,
    Left,
    Measured,
    Planner,
    Ready,
    Refuse,
    Released,
    Start,
    Stop,
    Unload,
)
from uml.runtime.scheduling.policy import Policy
from uml.runtime.scheduling.scheduler import Scheduler

SIZE = 10
SLOTS = 2
FAIRNESS = Policy().turn_requests


def machine(free: int) -> Machine:
    memory = Device("cpu", "cpu", "memory", 1000, free)
    return Machine("Linux", "x86_64", "test", 2, 2, frozenset(), memory)


def model(name: str) -> Model:
    info = ModelInfo(Path(f"/models/{name}.gguf"), Format.GGUF, Role.TEXT, 1.0, "", SIZE)
    return Model(name, info)


def simple_plan(
    model: Model,
    options: LoadOptions,
    machine: Machine,
    running: Sequence[Running],
    wants: Sequence[str] = (),
) -> LoadPlan:
    """A planner after the real one's contract: every model takes SIZE bytes, `missing` has no file."""
    if model.id == "missing":
        raise BadOption("engine", "none", "an engine")
    victims = evict(SIZE, machine.memory.free_bytes, running)
    if victims is None:
        raise DoesNotFit(model.id, SIZE, machine.memory.free_bytes)
    resolved = LoadOptions.parse({"ctx": 512, "parallel": SLOTS, **options.changed()})
    return LoadPlan(model, "fake", resolved, Footprint(SIZE, 0, 0), Placement({"cpu": SIZE}), evict=victims)


def scheduler(*loaded: str, room_for: int, planner: Planner = simple_plan, **policy: Any) -> Scheduler:
    """One with these models ready and idle, and memory for `room_for` models in all."""
    made = Scheduler(planner, machine(room_for * SIZE), policy=Policy(**policy))
    for ticket, name in enumerate(loaded, 1000):
        made.on(Asked(ticket, model(name)))
        made.on(Ready(name))
        made.on(Released(ticket))
    made.on(Measured(machine((room_for - len(loaded)) * SIZE)))
    return made


def asked(ticket: int, name: str, *, slots: int = 1, needs: tuple[str, ...] = (), **options: object) -> Asked:
    return Asked(ticket, model(name), LoadOptions.parse(options) if options else None, slots, needs)


def kinds(effects: list[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def started(effects: list[Effect]) -> list[str]:
    return [effect.plan.model.id for effect in effects if isinstance(effect, Start)]


def refused(effects: list[Effect]) -> dict[int, UmlError]:
    return {effect.ticket: effect.error for effect in effects if isinstance(effect, Refuse)}


def test_the_first_request_loads_and_all_that_wait_for_it_are_served_together() -> None:
    s = scheduler(room_for=1)
    assert started(s.on(asked(1, "qwen"))) == ["qwen"]
    assert s.on(asked(2, "qwen")) == []
    assert s.queued("qwen") == 2
    assert (s.position(1), s.position(2), s.position(3)) == (1, 2, 0)
    assert s.on(Ready("qwen")) == [Grant(1, "qwen"), Grant(2, "qwen")]


def test_what_a_request_wants_is_planned_with_and_a_loaded_model_serves_as_it_is() -> None:
    wanted: list[Sequence[str]] = []

    def plan(
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running],
        wants: Sequence[str] = (),
    ) -> LoadPlan:
        wanted.append(tuple(wants))
        return simple_plan(model, options, machine, running)

    s = scheduler(room_for=1, planner=plan)
    assert started(s.on(Asked(1, model("qwen"), wants=("regex",)))) == ["qwen"]
    assert set(wanted) == {("regex",)}
    s.on(Ready("qwen"))
    assert s.on(Asked(2, model("qwen"), wants=("image",))) == [Grant(2, "qwen")]


def test_a_busy_model_is_not_evicted() -> None:
    s = scheduler("qwen", room_for=1)
    assert s.on(asked(1, "qwen")) == [Grant(1, "qwen")]
    assert s.on(asked(2, "gemma")) == []  # qwen is still answering
    assert s.on(Released(1)) == [Stop("qwen")]
    assert s.on(Exited("qwen")) == []  # free is what we measure, not what we hope
    assert started(s.on(Measured(machine(SIZE)))) == ["gemma"]


def test_the_least_recently_used_model_leaves() -> None:
    s = scheduler("old", "new", room_for=2)
    s.on(asked(1, "old"))
    s.on(Released(1))
    assert s.on(asked(2, "third")) == [Stop("new")]


def test_models_load_side_by_side_where_there_is_room() -> None:
    s = scheduler(room_for=2)
    assert started(s.on(asked(1, "a"))) == ["a"]
    assert started(s.on(asked(2, "b"))) == ["b"]
    # What is promised to those two is not free, even though nothing was measured yet.
    assert s.on(asked(3, "c")) == []


def test_slots_are_given_in_order_and_no_more_than_there_are() -> None:
    s = scheduler("qwen", room_for=1)
    assert [s.on(asked(ticket, "qwen")) for ticket in (1, 2, 3, 4)] == [[Grant(1, "qwen")], [Grant(2, "qwen")], [], []]
    assert s.on(Released(2)) == [Grant(3, "qwen")]
    assert s.on(Released(1)) == [Grant(4, "qwen")]


def test_a_request_for_more_slots_than_there_are_is_served_alone() -> None:
    s = scheduler("qwen", room_for=1)
    assert s.on(asked(1, "qwen", slots=SLOTS + 3)) == [Grant(1, "qwen")]
    assert s.on(asked(2, "qwen")) == []
    assert s.on(Released(1)) == [Grant(2, "qwen")]


def test_a_request_that_takes_no_slot_does_not_wait_for_one() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen", slots=SLOTS))
    assert s.on(asked(2, "qwen", slots=0)) == [Grant(2, "qwen")]


def test_a_client_that_leaves_the_queue_causes_no_load() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen"))
    s.on(asked(2, "gemma"))
    assert s.on(Left(2)) == []
    assert s.on(Released(1)) == []


def test_a_client_that_leaves_with_its_grant_in_the_post_holds_nothing() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen", slots=SLOTS))
    assert s.on(asked(2, "qwen")) == []
    assert s.on(Left(1)) == [Grant(2, "qwen")]
    assert s.on(Released(1)) == []


def test_an_abandoned_load_stops_unless_somebody_else_waits_for_it() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen"))
    s.on(asked(2, "qwen"))
    assert s.on(Left(1, abandon=True)) == []
    assert s.on(Left(2, abandon=True)) == [Stop("qwen")]
    assert s.on(Ready("qwen")) == []  # it got ready while it was told to stop
    assert s.on(Exited("qwen")) == []
    assert s.workers == {}


def test_a_failed_load_is_told_to_all_who_waited_and_not_tried_again_for_them() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen"))
    s.on(asked(2, "qwen"))
    error = LoadFailed("qwen", "no such tensor")
    assert s.on(Failed("qwen", error)) == [Refuse(1, error), Refuse(2, error)]
    assert s.on(Measured(machine(SIZE))) == []


def test_after_a_crash_the_next_request_starts_it_anew() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen"))
    assert s.on(Exited("qwen")) == []
    assert s.on(asked(2, "qwen")) == []
    assert started(s.on(Measured(machine(SIZE)))) == ["qwen"]
    assert s.on(Released(1)) == []  # the broken request ends later, and owes nothing to the new worker
    assert s.on(Ready("qwen")) == [Grant(2, "qwen")]


def test_what_can_never_fit_is_refused_at_once() -> None:
    s = scheduler("qwen", room_for=1)
    tiny = machine(0)
    s.on(Measured(tiny))
    s.on(Unload(("qwen",)))
    s.on(Exited("qwen"))
    s.on(Measured(tiny))
    assert isinstance(refused(s.on(asked(1, "gemma")))[1], DoesNotFit)


def test_an_error_of_the_plan_reaches_only_its_own_request() -> None:
    s = scheduler("qwen", room_for=2)
    assert isinstance(refused(s.on(asked(1, "missing")))[1], BadOption)
    assert s.on(asked(2, "qwen")) == [Grant(2, "qwen")]


def test_other_options_reload_the_model_when_it_is_idle() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen"))
    assert s.on(asked(2, "qwen", ctx=1024)) == []
    assert s.on(asked(3, "qwen")) == []  # behind the reload, else the reload starves
    assert s.on(Released(1)) == [Stop("qwen")]
    s.on(Exited("qwen"))
    effects = s.on(Measured(machine(SIZE)))
    assert [effect.plan.options.ctx for effect in effects if isinstance(effect, Start)] == [1024]
    assert s.on(Ready("qwen")) == [Grant(2, "qwen"), Grant(3, "qwen")]


def test_options_that_are_already_so_reload_nothing() -> None:
    s = scheduler("qwen", room_for=1)
    assert s.on(asked(1, "qwen", ctx=512)) == [Grant(1, "qwen")]


def options_of(effects: list[Effect]) -> dict[str, object]:
    (start,) = (effect for effect in effects if isinstance(effect, Start))
    return {"ctx": start.plan.options.ctx, "embeddings": start.plan.options.embeddings}


def test_after_a_crash_a_model_comes_back_as_it_was_asked_for() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen", slots=0, ctx=1024))
    s.on(Ready("qwen"))
    s.on(Released(1))
    s.on(Exited("qwen"))
    s.on(Measured(machine(SIZE)))
    assert options_of(s.on(asked(2, "qwen"))) == {"ctx": 1024, "embeddings": False}


def test_options_that_failed_are_not_tried_again_for_others() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen", ctx=4096))
    s.on(Failed("qwen", LoadFailed("qwen", "too much")))
    s.on(Measured(machine(SIZE)))
    assert options_of(s.on(asked(2, "qwen"))) == {"ctx": 512, "embeddings": False}


def test_a_request_that_needs_a_flag_reloads_once_and_keeps_the_other_options() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen", ctx=1024))
    s.on(Ready("qwen"))
    assert s.on(asked(2, "qwen", needs=("embeddings",))) == []
    assert s.on(Released(1)) == [Stop("qwen")]
    s.on(Exited("qwen"))
    assert options_of(s.on(Measured(machine(SIZE)))) == {"ctx": 1024, "embeddings": True}
    assert s.on(Ready("qwen")) == [Grant(2, "qwen")]
    assert s.on(asked(3, "qwen")) == [Grant(3, "qwen")]  # chats go on with the same worker


def test_unload_waits_for_the_requests_under_way_and_takes_no_new_ones() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen"))
    assert s.on(Unload(("qwen", "unknown"))) == []
    assert s.on(asked(2, "qwen")) == []
    assert s.on(Released(1)) == [Stop("qwen")]
    assert s.on(Unload(("qwen",))) == []
    s.on(Exited("qwen"))
    assert started(s.on(Measured(machine(SIZE)))) == ["qwen"]


def test_unload_cancels_a_load_and_tells_who_waited() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen"))
    effects = s.on(Unload(("qwen",)))
    assert isinstance(gone := refused(effects)[1], Cancelled)
    assert "ask again to have it loaded again" in gone.message, "it may be told to another than who unloaded it"
    assert effects[-1] == Stop("qwen")


def test_a_waiting_model_is_passed_only_so_often() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(0, "qwen"))
    s.on(asked(1, "gemma"))
    passed = 0
    for ticket in range(2, 2 + 3 * FAIRNESS):
        passed += kinds(s.on(asked(ticket, "qwen"))).count("Grant")
        s.on(Released(ticket))
    assert passed == FAIRNESS
    assert s.on(Released(0)) == [Stop("qwen")]


def test_a_model_that_is_not_in_the_way_is_served_all_the_same() -> None:
    s = scheduler("small", "qwen", room_for=2)
    s.on(asked(0, "qwen"))
    s.on(asked(1, "small"))
    s.on(asked(2, "gemma"))
    s.on(Released(1))  # small goes for gemma
    assert s.workers["small"].state == "stopping"
    assert [kinds(s.on(asked(ticket, "qwen", slots=0))) for ticket in range(10, 30)] == [["Grant"]] * 20


def test_a_full_queue_refuses() -> None:
    s = scheduler("qwen", room_for=1, queue_limit=1)
    s.on(asked(1, "qwen", slots=SLOTS))
    assert s.on(asked(2, "qwen")) == []
    assert isinstance(refused(s.on(asked(3, "qwen")))[3], Overloaded)


@pytest.mark.parametrize("name", ["qwen", "nobody"])
def test_a_release_of_an_unknown_ticket_changes_nothing(name: str) -> None:
    s = scheduler("qwen", room_for=1)
    assert s.on(Released(77)) == []
    assert s.on(Left(78)) == []
    assert s.on(Unload((name,))) == ([Stop("qwen")] if name == "qwen" else [])
