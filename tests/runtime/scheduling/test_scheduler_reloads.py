"""Stories of loaded models that are wanted with other options; no process, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from tests.runtime.scheduling.test_scheduler import SIZE, asked, kinds, machine, model, refused, started
from tests.runtime.scheduling.test_scheduler import scheduler as any_scheduler
from uml.core.errors import BadOption, DoesNotFit, LoadFailed, LoadSuspended
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
    Stop,
    Tick,
)

TRAINED = 4096


def plan(
    model: Model,
    options: LoadOptions,
    machine: Machine,
    running: Sequence[Running],
    wants: Sequence[str] = (),
) -> LoadPlan:
    """Every model takes SIZE bytes, twice as many with a context of 2048; one beyond 4096 is impossible."""
    if options.ctx > TRAINED:
        raise BadOption("ctx", options.ctx, f"0 to {TRAINED}")
    needed = SIZE * max(1, options.ctx // 1024)
    victims = evict(needed, machine.memory.free_bytes, running)
    if victims is None:
        raise DoesNotFit(model.id, needed, machine.memory.free_bytes)
    resolved = LoadOptions.parse({"ctx": 512, "parallel": 2, **options.changed()})
    return LoadPlan(model, "fake", resolved, Footprint(needed, 0, 0), Placement({"cpu": needed}), evict=victims)


scheduler = partial(any_scheduler, planner=plan)


def test_an_impossible_option_leaves_the_idle_model_where_it_is() -> None:
    s = scheduler("qwen", room_for=1)
    assert isinstance(refused(s.on(asked(1, "qwen", ctx=8192)))[1], BadOption)
    assert s.on(asked(2, "qwen")) == [Grant(2, "qwen")]


def test_an_impossible_option_is_told_at_once_though_the_model_is_busy() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen"))
    assert isinstance(refused(s.on(asked(2, "qwen", ctx=8192)))[2], BadOption)
    assert s.on(asked(3, "qwen")) == [Grant(3, "qwen")]


def test_what_could_never_fit_leaves_it_where_it_is_too() -> None:
    s = scheduler("qwen", room_for=1)
    assert isinstance(refused(s.on(asked(1, "qwen", ctx=2048)))[1], DoesNotFit)
    assert s.on(asked(2, "qwen")) == [Grant(2, "qwen")]


def test_its_own_memory_counts_as_free_for_the_load_in_its_place() -> None:
    s = scheduler("qwen", "gemma", room_for=2)
    s.on(Keep(model("qwen"), "pinned"))
    assert s.on(asked(1, "qwen", ctx=2048)) == [Stop("qwen")], "a pin keeps it from others, not from other options"
    s.on(Exited("qwen"))
    assert s.on(Measured(machine(SIZE))) == [Stop("gemma")]
    s.on(Exited("gemma"))
    assert started(s.on(Measured(machine(2 * SIZE)))) == ["qwen"]


def test_it_serves_on_while_others_hold_the_memory_for_the_new_load() -> None:
    s = scheduler("qwen", "gemma", room_for=2)
    s.on(asked(1, "gemma"))
    assert s.on(asked(2, "qwen", ctx=2048)) == [], "gemma is busy, and qwen stays until it is not"
    assert [place.waits_for for place in s.places()] == ["memory"]
    assert s.on(Released(1)) == [Stop("qwen")]


def test_memory_on_its_way_back_is_waited_for() -> None:
    s = scheduler("qwen", "gemma", room_for=2)
    s.on(Exited("gemma"))
    assert s.on(asked(1, "qwen", ctx=2048)) == [], "what gemma held is not measured yet"
    assert s.on(Measured(machine(SIZE))) == [Stop("qwen")]


def test_one_that_waits_to_be_reloaded_neither_grows_old_nor_keeps_the_clock_ringing() -> None:
    s = scheduler("qwen", "gemma", room_for=2, idle_unload_s=60)
    s.on(asked(1, "gemma"), 0)
    s.on(asked(2, "qwen", ctx=2048), 0)
    assert s.deadline_s > 60
    assert s.on(Tick(), 100) == []
    s.on(Left(2), 100)
    assert "qwen" not in [place.model for place in s.places()]
    assert s.workers["qwen"].state == "stopping", "its time was over"


def test_a_reload_that_waits_for_memory_is_not_starved_by_those_who_hold_it() -> None:
    s = scheduler("qwen", "gemma", room_for=2)
    s.on(asked(1, "gemma"))
    s.on(asked(2, "qwen", ctx=2048))
    limit = 8
    for ticket in range(10, 10 + limit):
        assert s.on(asked(ticket, "gemma", slots=0)) == [Grant(ticket, "gemma")]
    assert s.on(asked(100, "gemma", slots=0)) == []
    assert [place.waits_for for place in s.places()] == ["memory", "turn"]


@pytest.mark.parametrize("person", [False, True])
def test_options_that_have_just_failed_do_not_cost_the_model_that_works(person: bool) -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen", ctx=1024))
    s.on(Exited("qwen"))
    s.on(Measured(machine(SIZE)))
    assert kinds(s.on(Failed("qwen", LoadFailed("qwen", "on request")))) == ["Refuse"]
    s.on(Measured(machine(SIZE)))
    s.on(asked(2, "qwen"))
    s.on(Ready("qwen"))
    s.on(Released(2))
    s.on(Measured(machine(0)))
    effects = s.on(Asked(3, model("qwen"), LoadOptions(ctx=1024), person=person))
    if person:
        assert effects == [Stop("qwen")], "a person is not held back"
    else:
        assert isinstance(refused(effects)[3], LoadSuspended)
        assert s.on(asked(4, "qwen")) == [Grant(4, "qwen")]


def test_one_that_left_reloads_nothing() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen"))
    s.on(asked(2, "qwen", ctx=1024))
    s.on(Left(2))
    assert s.on(Released(1)) == []


def test_a_model_comes_back_as_it_was_last_wanted_until_it_is_usually_loaded_otherwise() -> None:
    s = scheduler(room_for=2)

    def loaded(ticket: int, usual: int, **options: int) -> int:
        """The context of the load for a request, after which the model dies of itself."""
        wanted = LoadOptions.parse(options) if options else None
        effects = s.on(Asked(ticket, model("qwen"), wanted, usual=LoadOptions(ctx=usual), person=True))
        (start,) = (effect for effect in effects if isinstance(effect, Start))
        s.on(Ready("qwen"))
        s.on(Released(ticket))
        s.on(Exited("qwen"))
        s.on(Measured(machine(free=2 * SIZE)))
        return start.plan.options.ctx

    assert loaded(1, 256) == 256
    assert loaded(2, 256, ctx=128) == 128
    assert loaded(3, 256) == 128, "as it was last wanted"
    assert loaded(4, 300) == 300, "what was wanted then was wanted of another profile"
    assert loaded(5, 300) == 300
