"""Random sequences of requests, departures, loads, unloads and deaths against the laws of the scheduler."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.runtime.test_scheduler import SIZE, machine, model, simple_plan
from uml.core.errors import LoadFailed
from uml.core.options import LoadOptions
from uml.runtime.events import (
    Asked,
    Effect,
    Event,
    Exited,
    Failed,
    Grant,
    Left,
    Measured,
    Ready,
    Refuse,
    Released,
    Start,
    Stop,
    Unload,
)
from uml.runtime.scheduler import Scheduler

ROOM = 2
NAMES = st.sampled_from(["a", "b", "c", "d"])


class World(RuleBasedStateMachine):
    """Plays the supervisor: keeps processes and tickets, and checks every effect against them."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(simple_plan, machine(ROOM * SIZE), queue_limit=20)
        self.processes: dict[str, str] = {}
        self.tickets: dict[int, str] = {}
        self.holds: dict[int, str] = {}
        self.broken: set[int] = set()
        self.unmeasured = False
        self.next_ticket = 0
        self.unloading: set[str] = set()

    def feed(self, event: Event) -> None:
        for effect in self.scheduler.on(event):
            self.carry_out(effect)

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Start(plan):
                name = plan.model.id
                assert name not in self.processes, "one worker a model"
                assert not self.unmeasured, "memory is free when it was measured"
                assert name in self.tickets.values(), "no load without a waiting ticket"
                self.processes[name] = "starting"
                assert len(self.processes) <= ROOM, "within the memory there is"
            case Stop(name):
                assert self.processes[name] in ("starting", "ready"), "one Stop a worker"
                busy = name in [held for ticket, held in self.holds.items() if ticket not in self.broken]
                assert not busy, "a busy model is never stopped"
                self.processes[name] = "stopping"
            case Grant(ticket, name):
                assert self.tickets.pop(ticket) == name, "one Grant, for what was asked"
                assert self.processes[name] == "ready"
                self.holds[ticket] = name
            case Refuse(ticket, _):
                del self.tickets[ticket]

    @rule(name=NAMES, slots=st.integers(0, 3), ctx=st.sampled_from([None, None, None, 1024]))
    def ask(self, name: str, slots: int, ctx: int | None) -> None:
        self.next_ticket += 1
        self.tickets[self.next_ticket] = name
        options = LoadOptions(ctx=ctx) if ctx else None
        self.feed(Asked(self.next_ticket, model(name), options, slots))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), abandon=st.booleans())
    def leave(self, data: st.DataObject, abandon: bool) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.tickets)))
        del self.tickets[ticket]
        self.feed(Left(ticket, abandon))

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), gone=st.booleans())
    def release(self, data: st.DataObject, gone: bool) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.holds)))
        del self.holds[ticket]
        self.broken.discard(ticket)
        self.feed(Left(ticket) if gone else Released(ticket))

    def in_state(self, *states: str) -> list[str]:
        return sorted(name for name, state in self.processes.items() if state in states)

    @precondition(lambda self: self.in_state("starting"))
    @rule(data=st.data())
    def get_ready(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.in_state("starting")))
        self.processes[name] = "ready"
        self.feed(Ready(name))

    @precondition(lambda self: self.in_state("starting"))
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.in_state("starting")))
        del self.processes[name]
        self.unmeasured = True
        self.feed(Failed(name, LoadFailed(name, "on request")))

    @precondition(lambda self: self.in_state("ready", "stopping"))
    @rule(data=st.data())
    def exit(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.in_state("ready", "stopping")))
        del self.processes[name]
        self.broken |= {ticket for ticket, held in self.holds.items() if held == name}
        self.unmeasured = True
        self.feed(Exited(name))

    @rule(names=st.lists(NAMES, max_size=2))
    def unload(self, names: list[str]) -> None:
        self.feed(Unload(tuple(names)))

    @rule()
    def measure(self) -> None:
        self.unmeasured = False
        # Models that are still loading have not taken their memory yet.
        taken = len(self.in_state("ready", "stopping"))
        self.feed(Measured(machine((ROOM - taken) * SIZE)))

    @invariant()
    def agrees_about_processes(self) -> None:
        assert set(self.scheduler.workers) == set(self.processes)
        assert set(self.scheduler.waiting) == set(self.tickets)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """With everything idle and measured, a ticket at the head is not left standing."""
        quiet = not self.unmeasured and not self.in_state("starting", "stopping") and not self.holds
        assert not (quiet and self.tickets)


TestLaws = World.TestCase
TestLaws.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
