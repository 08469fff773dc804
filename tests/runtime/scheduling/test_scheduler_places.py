"""Stories of who waits, and what they are told that they wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.runtime.scheduling.test_scheduler import SIZE, asked, machine, scheduler, simple_plan
from tests.runtime.scheduling.test_scheduler_failures import died
from uml.core.errors import DoesNotFit
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.planning.evict import Running, evict
from uml.runtime.scheduling.events import Exited, Measured, Ready, Released, Unload
from uml.runtime.scheduling.scheduler import Scheduler


def told(s: Scheduler) -> list[tuple[str, tuple[str, ...], str]]:
    """What each place in the queue waits for."""
    assert [place.position for place in s.places()] == list(range(1, len(s.waiting) + 1))
    assert [s.place(ticket) for ticket in s.waiting] == list(s.places())
    return [(place.waits_for, place.held_by, place.reason) for place in s.places()]


def test_who_waits_for_memory_is_told_who_is_busy_with_it() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen"))
    s.on(asked(2, "gemma"))
    s.on(asked(3, "gemma"))
    s.on(asked(4, "other"))
    busy = ("memory", ("qwen",), "the memory of qwen, which is busy")
    assert told(s) == [busy, busy, ("memory", ("gemma",), "memory, after gemma, which waits for it too")]
    assert s.place(1) is None, "it is served"

    s.on(Released(1))
    assert told(s)[0] == ("memory", ("qwen",), "the memory of qwen, which is leaving")
    s.on(Exited("qwen"))
    assert told(s)[0] == ("memory", (), "memory that is on its way back")
    s.on(Measured(machine(SIZE)))
    assert told(s)[0] == ("load", (), "its model, which is loading")


def test_each_of_several_that_are_in_the_way_is_named_with_what_it_does() -> None:
    def plan(
        model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running], wants: Sequence[str] = ()
    ) -> LoadPlan:
        if model.id != "big":
            return simple_plan(model, options, machine, running, wants)
        if (gone := evict(2 * SIZE, machine.memory.free_bytes, running)) is None:
            raise DoesNotFit(model.id, 2 * SIZE, machine.memory.free_bytes)
        footprint, placed = Footprint(2 * SIZE, 0, 0), Placement({"cpu": 2 * SIZE})
        return LoadPlan(model, "fake", options, footprint, placed, evict=gone)

    s = scheduler("qwen", "gemma", room_for=2, planner=plan)
    s.on(asked(1, "qwen"))
    s.on(asked(2, "big"))
    assert told(s) == [
        ("memory", ("gemma", "qwen"), "the memory of gemma, which is idle, and of qwen, which is busy"),
    ]


def test_who_waits_for_its_turn_is_told_after_whom() -> None:
    s = scheduler("qwen", room_for=1, turn_s=5.0, turn_requests=0)
    s.on(asked(1, "gemma"), 8)
    s.on(Exited("qwen"), 9)
    s.on(Measured(machine(SIZE)), 9)
    s.on(Ready("gemma"), 10)
    s.on(Measured(machine(0)), 10)
    s.on(asked(2, "qwen"), 11)
    assert told(s) == [("turn", ("gemma",), "its turn, after gemma")], "busy, and not before its turn is over"
    s.on(Released(1), 12)
    assert told(s) == [("turn", ("gemma",), "its turn, after gemma")], "idle, and not before its turn is over"
    s.on(asked(3, "gemma"), 12)
    s.on(asked(4, "gemma"), 16)
    assert told(s) == [
        ("memory", ("gemma",), "the memory of gemma, which is busy"),
        ("turn", ("qwen",), "its turn, after qwen"),
    ], "no more may pass who has waited so long"


def test_what_has_nothing_to_do_with_other_models_is_told_too() -> None:
    s = scheduler(room_for=1)
    s.on(asked(1, "qwen"))
    assert told(s) == [("load", (), "its model, which is loading")]
    s.on(Ready("qwen"))
    s.on(asked(2, "qwen", slots=2))
    s.on(replace(asked(3, "qwen"), needs=("embeddings",)))
    assert told(s) == [("slot", (), "a free slot of its model")] * 2
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "qwen"))
    s.on(asked(2, "qwen", ctx=1024))
    assert told(s) == [("reload", (), "its model to be idle: it is loaded with other options")]
    s.on(Unload(("qwen",)))
    s.on(Released(1))
    assert told(s) == [("unload", (), "its model to leave: it is being unloaded")]
    s, now_s = died(2)
    s.on(asked(10, "qwen"), now_s)
    assert told(s) == [("restart", (), "the end of a pause: its model's process has died")]
