"""Stories of two agents, two models, and memory for one."""

from __future__ import annotations

from dataclasses import replace

from tests.runtime.scheduling.test_scheduler import SIZE, asked, machine, scheduler, started
from uml.core.errors import LoadFailed
from uml.runtime.scheduling.events import Exited, Failed, Grant, Left, Measured, Ready, Released, Start, Stop, Tick
from uml.runtime.scheduling.scheduler import Scheduler


def swapped(turn_s: float = 5.0) -> Scheduler:
    """One in which gemma has just taken the place of qwen, at 10 s, and is idle."""
    s = scheduler("qwen", room_for=1, turn_s=turn_s)
    assert s.on(asked(1, "gemma"), 8) == [Stop("qwen")], "the first swap waits for nothing"
    s.on(Exited("qwen"), 9)
    s.on(Measured(machine(SIZE)), 9)
    s.on(Ready("gemma"), 10)
    s.on(Measured(machine(0)), 10)
    s.on(Released(1), 10)
    return s


def test_who_was_evicted_does_not_evict_at_once_in_its_turn() -> None:
    s = swapped()
    assert s.on(asked(2, "qwen"), 11) == []
    assert s.places()[0].waits_for == "turn"
    assert s.deadline_s == 15
    assert s.on(asked(3, "gemma"), 12) == [Grant(3, "gemma")], "the turn is gemma's"
    s.on(Released(3), 13)
    assert s.on(Tick(), 15) == [Stop("gemma")]


def test_in_its_turn_a_model_serves_as_many_as_come() -> None:
    s = swapped()
    s.on(asked(2, "qwen"), 11)
    for ticket in range(3, 60):
        assert s.on(asked(ticket, "gemma"), 12) == [Grant(ticket, "gemma")]
        s.on(Released(ticket), 12)


def test_a_third_model_and_a_person_wait_for_no_turn() -> None:
    assert swapped().on(asked(2, "third"), 11) == [Stop("gemma")]
    assert swapped().on(replace(asked(2, "qwen"), person=True), 11) == [Stop("gemma")]


def test_who_asks_again_while_the_other_is_still_on_its_way_waits_for_its_turn_too() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "gemma"), 0)
    s.on(asked(2, "qwen"), 0.5)
    s.on(Exited("qwen"), 1)
    assert s.deadline_s > 1
    s.on(Measured(machine(SIZE)), 2)
    s.on(Ready("gemma"), 3)
    assert s.on(Released(1), 4) == []
    assert s.on(Measured(machine(0)), 5) == []
    assert s.deadline_s == 8
    assert s.on(Tick(), 8) == [Stop("gemma")]


def test_a_turn_ends_with_the_model() -> None:
    s = swapped()
    s.on(asked(2, "qwen"), 11)
    assert s.on(Exited("gemma"), 12) == []
    assert started(s.on(Measured(machine(SIZE)), 12)) == ["qwen"]


def test_a_turn_that_never_began_holds_nobody_back() -> None:
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "gemma"), 0)
    s.on(Exited("qwen"), 1)
    s.on(Left(1), 1)
    s.on(Measured(machine(SIZE)), 2)
    assert started(s.on(asked(2, "qwen"), 2)) == ["qwen"]
    s = scheduler("qwen", room_for=1)
    s.on(asked(1, "gemma"), 0)
    s.on(Exited("qwen"), 1)
    s.on(Measured(machine(SIZE)), 2)
    s.on(asked(2, "qwen"), 2)
    s.on(Failed("gemma", LoadFailed("gemma", "no")), 3)
    assert started(s.on(Measured(machine(SIZE)), 3)) == ["qwen"]


def test_two_agents_that_alternate_swap_once_a_turn_and_not_once_a_request() -> None:
    """Each asks its own model, waits for the answer, thinks, and asks again; all takes a tenth of a second."""
    turn_s, step_s, seconds = 5.0, 0.1, 100
    s = scheduler(room_for=1, turn_s=turn_s)
    waits_for: dict[int, str] = {}
    served = {"qwen": 0, "gemma": 0}
    tickets = 0
    swaps = 0
    for step in range(int(seconds / step_s)):
        now_s = step * step_s
        for name in served:
            if name not in waits_for.values():
                tickets += 1
                waits_for[tickets] = name
                effects = s.on(asked(tickets, name), now_s)
            else:
                effects = s.on(Tick(), now_s)
            while effects:
                effect = effects.pop(0)
                if isinstance(effect, Grant):
                    served[waits_for.pop(effect.ticket)] += 1
                    effects += s.on(Released(effect.ticket), now_s)
                elif isinstance(effect, Stop):
                    swaps += 1
                    effects += s.on(Exited(effect.model), now_s)
                    effects += s.on(Measured(machine(SIZE)), now_s)
                elif isinstance(effect, Start):
                    effects += s.on(Ready(effect.plan.model.id), now_s)
                    effects += s.on(Measured(machine(0)), now_s)
    assert swaps <= seconds / turn_s + 1
    assert min(served.values()) > 5 * swaps, served
