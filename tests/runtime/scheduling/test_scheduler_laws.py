"""Random sequences of requests, departures, loads, unloads, deaths and hours against the laws of the scheduler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.runtime.scheduling.test_scheduler import SIZE, machine, model, simple_plan
from uml.core.errors import BadOption, DoesNotFit, LoadFailed, LoadSuspended, OutOfMemory, Quarantined, WorkerDied
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.evict import Running
from uml.runtime.scheduling.events import (
    Asked,
    Effect,
    Event,
    Exited,
    Failed,
    Grant,
    Keep,
    Kept,
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
from uml.runtime.scheduling.policy import Policy
from uml.runtime.scheduling.scheduler import Scheduler

ROOM = 2
NAMES = st.sampled_from(["a", "b", "c", "d"])
IMPOSSIBLE = 1 << 20
POLICY = Policy(queue_limit=20, idle_unload_s=60, turn_s=5, retry_s=4, deaths=3, healthy_s=100)


def plan(
    model: Model,
    options: LoadOptions,
    machine: Machine,
    running: Sequence[Running],
    wants: Sequence[str] = (),
) -> LoadPlan:
    """As `simple_plan`, and no model is loaded with a context that is impossible."""
    if options.ctx == IMPOSSIBLE:
        raise BadOption("ctx", options.ctx, "less")
    return simple_plan(model, options, machine, running)


@dataclass(slots=True)
class Deaths:
    """Of a model's worker, since it last served for long enough; with which options, and until when it pauses."""

    options: LoadOptions
    count: int = 0
    until_s: float = 0.0


class World(RuleBasedStateMachine):
    """Plays the supervisor: keeps processes, tickets and the clock, and checks every effect against them."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.scheduler = Scheduler(plan, machine(ROOM * SIZE), policy=POLICY)
        self.processes: dict[str, str] = {}
        self.tickets: dict[int, str] = {}
        self.holds: dict[int, str] = {}
        self.broken: set[int] = set()
        self.kept: dict[str, Kept] = {}
        self.failed: dict[str, tuple[float, LoadOptions]] = {}
        self.deaths: dict[str, Deaths] = {}
        self.wants: dict[int, LoadOptions | None] = {}
        self.ready_since: dict[str, float] = {}
        self.started_with: dict[str, LoadOptions] = {}
        self.left_for: dict[str, tuple[str, float]] = {}
        self.ended: set[str] = set()
        self.unmeasured = False
        self.next_ticket = 0

    def feed(self, event: Event) -> None:
        effects = self.scheduler.on(event, self.now_s)
        evicted = {effect.model for effect in effects if isinstance(effect, Stop) and effect.reason == "evicted"}
        if evicted:
            started = {effect.plan.model.id for effect in effects if isinstance(effect, Start)}
            self.check_turn(evicted, {*self.processes, *started})
        for effect in effects:
            self.carry_out(effect)
        assert self.scheduler.deadline_s > self.now_s, "what is due is done"
        gone = self.ended | ({name for name, _ in self.left_for.values()} - {*self.processes, *self.tickets.values()})
        self.left_for = {name: turn for name, turn in self.left_for.items() if turn[0] not in gone}
        self.ended = set()

    def check_turn(self, evicted: set[str], there: set[str]) -> None:
        """Whoever these make room for was not itself evicted for one that has not had its turn."""
        first = next(
            waiter.asked
            for waiter in self.scheduler.waiting.values()
            if waiter.asked.model.id not in there and waiter.why != "restart"
        )
        successor, until_s = self.left_for.get(first.model.id, ("", 0.0))
        waits = self.processes.get(successor) in ("starting", "ready") and self.now_s < until_s
        assert first.person or not waits, "a model that was evicted evicts nobody before the other's turn is over"
        self.left_for |= dict.fromkeys(evicted, (first.model.id, math.inf))

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Start(plan):
                name = plan.model.id
                assert name not in self.processes, "one worker a model"
                assert not self.unmeasured, "memory is free when it was measured"
                assert name in self.tickets.values() or name in self.kept, "no load without a waiting ticket"
                resident = self.scheduler.workers[name]
                until_s, with_options = self.failed.get(name, (0.0, LoadOptions()))
                again = with_options.loads_as(resident.asked)
                assert self.now_s >= until_s or not again, "a failed load is not tried before its time"
                deaths = self.deaths.get(name)
                if deaths and deaths.options.loads_as(resident.asked):
                    assert self.now_s >= deaths.until_s, "after a death there is a pause"
                    assert deaths.count < POLICY.deaths, "one that died too often is not started again"
                self.processes[name] = "starting"
                self.started_with[name] = resident.asked
                assert len(self.processes) <= ROOM, "within the memory there is"
            case Stop(name, reason):
                assert self.processes[name] in ("starting", "ready"), "one Stop a worker"
                busy = name in [held for ticket, held in self.holds.items() if ticket not in self.broken]
                assert not busy, "a busy model is never stopped"
                assert reason not in ("evicted", "idle") or self.kept.get(name) != "pinned", "a pinned model stays"
                assert reason != "idle" or name not in self.tickets.values(), "a model that is wanted is not idle"
                wishes = [self.wants[ticket] for ticket, wanted in self.tickets.items() if wanted == name]
                others = any(options and options.ctx not in (0, IMPOSSIBLE) for options in wishes)
                # Whoever says nothing gets it as it was last asked for, which need not be as it is.
                assert reason != "reloaded" or others or None in wishes, "nothing is stopped for what cannot be"
                self.processes[name] = "stopping"
            case Grant(ticket, name):
                assert self.tickets.pop(ticket) == name, "one Grant, for what was asked"
                assert self.processes[name] == "ready"
                self.holds[ticket] = name
            case Refuse(ticket, error):
                name = self.tickets.pop(ticket)
                if isinstance(error, LoadSuspended):
                    assert error.details["retry_in_s"] >= 0
                if isinstance(error, LoadSuspended | Quarantined) and name in self.processes:
                    wanted = self.wants[ticket]
                    assert wanted is not None, "one that is loaded refuses only other options"
                    assert not wanted.loads_as(self.started_with[name])
                if isinstance(error, DoesNotFit):
                    pinned = [other for other in self.processes if self.kept.get(other) == "pinned" and other != name]
                    assert len(pinned) == ROOM, "where it would fit once others are loaded and done, it waits"
                if isinstance(error, Quarantined):
                    assert self.deaths[name].count >= POLICY.deaths
            case Missed(name, _):
                assert name in self.kept
                assert name not in self.processes

    @rule(
        name=NAMES,
        slots=st.integers(0, 3),
        ctx=st.sampled_from([None, None, None, 1024, IMPOSSIBLE]),
        keep_alive_s=st.sampled_from([None, None, None, 0.0, 10.0, math.inf]),
        person=st.sampled_from([False, False, False, True]),
    )
    def ask(self, name: str, slots: int, ctx: int | None, keep_alive_s: float | None, person: bool) -> None:
        self.ask_as(name, slots, ctx, keep_alive_s, person)

    def ask_as(
        self,
        name: str,
        slots: int = 1,
        ctx: int | None = None,
        keep_alive_s: float | None = None,
        person: bool = False,
    ) -> None:
        self.next_ticket += 1
        self.tickets[self.next_ticket] = name
        options = LoadOptions(ctx=ctx) if ctx else None
        self.wants[self.next_ticket] = options
        if person and not self.scheduler.serves(Asked(0, model(name), options)):
            self.failed.pop(name, None)
            self.deaths.pop(name, None)
        self.feed(Asked(self.next_ticket, model(name), options, slots, (), keep_alive_s, person))

    @rule(name=NAMES, finish=st.booleans())
    def ask_and_go_well(self, name: str, finish: bool) -> None:
        """The usual: a request that is served, and perhaps over."""
        self.ask_as(name)
        self.go_well(finish)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), abandon=st.booleans())
    def leave(self, data: st.DataObject, abandon: bool) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.tickets)))
        del self.tickets[ticket]
        self.feed(Left(ticket, abandon))

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), gone=st.booleans())
    def release(self, data: st.DataObject, gone: bool) -> None:
        self.let_go(data.draw(st.sampled_from(sorted(self.holds))), gone)

    def let_go(self, ticket: int, gone: bool = False) -> None:
        del self.holds[ticket]
        self.broken.discard(ticket)
        self.feed(Left(ticket) if gone else Released(ticket))

    def in_state(self, *states: str) -> list[str]:
        return sorted(name for name, state in self.processes.items() if state in states)

    @precondition(lambda self: self.in_state("starting"))
    @rule(data=st.data())
    def get_ready(self, data: st.DataObject) -> None:
        self.serve(data.draw(st.sampled_from(self.in_state("starting"))))

    def serve(self, name: str) -> None:
        self.processes[name] = "ready"
        if name in self.failed and self.failed[name][1].loads_as(self.started_with[name]):
            del self.failed[name]
        for gone, (successor, until_s) in self.left_for.items():
            if successor == name and until_s == math.inf:
                self.left_for[gone] = (name, self.now_s + POLICY.turn_s)
        self.ready_since[name] = self.now_s
        self.feed(Ready(name))

    @rule(finish=st.booleans())
    def go_well(self, finish: bool) -> None:
        """What is under way comes to a good end, and the requests too where `finish` says so."""
        for _ in range(8):
            for name in self.in_state("stopping"):
                self.end(name)
            self.measure()
            for name in self.in_state("starting"):
                self.serve(name)
            for ticket in sorted(self.holds) if finish else ():
                self.let_go(ticket)

    @precondition(lambda self: self.in_state("starting"))
    @rule(data=st.data(), oom=st.booleans())
    def fail(self, data: st.DataObject, oom: bool) -> None:
        self.break_down(data.draw(st.sampled_from(self.in_state("starting"))), oom)

    @rule(name=NAMES)
    def ask_and_fail(self, name: str) -> None:
        """A request whose load fails."""
        self.ask_as(name)
        if self.processes.get(name) == "starting":
            self.break_down(name, oom=False)
            self.measure()

    def break_down(self, name: str, oom: bool) -> None:
        del self.processes[name]
        self.ended = {name}
        self.unmeasured = True
        waiting = {ticket for ticket, wanted in self.tickets.items() if wanted == name}
        self.failed.pop(name, None)
        if not oom:  # else it may be tried with less, at once
            self.failed[name] = (self.now_s + POLICY.retry_s, self.started_with[name])
        self.feed(Failed(name, OutOfMemory(name, "cpu") if oom else LoadFailed(name, "on request")))
        left = waiting & set(self.tickets)
        assert left in (set(), waiting), "all who wait are told, or with less it is tried again for all"
        assert oom or not left
        deaths = self.deaths.get(name)
        if deaths and not deaths.options.loads_as(self.started_with[name]) and (not oom or waiting - left):
            del self.deaths[name]  # what is remembered of a model is its last trouble

    @precondition(lambda self: self.in_state("ready", "stopping"))
    @rule(data=st.data())
    def exit(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.in_state("ready", "stopping"))))

    def end(self, name: str) -> None:
        died = self.processes.pop(name) == "ready"
        if died:
            self.mourn(name)
        self.ended = {name}
        self.broken |= {ticket for ticket, held in self.holds.items() if held == name}
        self.unmeasured = True
        self.feed(Exited(name, WorkerDied(name, "on request") if died else None))

    def mourn(self, name: str) -> None:
        options = self.started_with[name]
        deaths = self.deaths.get(name)
        if deaths is None or not deaths.options.loads_as(options):
            deaths = self.deaths[name] = Deaths(options)
            self.failed.pop(name, None)  # what is remembered of a model is its last trouble
        if self.now_s - self.ready_since[name] >= POLICY.healthy_s:
            deaths.count = 0
        deaths.count += 1
        # No pause after the first, a second after the next, then twice as long each time.
        deaths.until_s = self.now_s + (0.0 if deaths.count == 1 else 2.0 ** (deaths.count - 2))

    @precondition(lambda self: self.in_state("ready"))
    @rule(name=NAMES)
    def die_and_be_wanted(self, name: str) -> None:
        """A worker dies under its users, who ask again."""
        if self.processes.get(name) == "ready":
            self.end(name)
            self.ask_as(name)
            self.measure()

    @rule(names=st.lists(NAMES, max_size=2))
    def unload(self, names: list[str]) -> None:
        for name in names:
            self.kept.pop(name, None)
        self.feed(Unload(tuple(names)))

    @rule(name=NAMES, how=st.sampled_from(["", "pinned", "preloaded"]))
    def keep(self, name: str, how: Kept) -> None:
        self.kept.pop(name, None)
        if how:
            self.kept[name] = how
        self.feed(Keep(model(name), how))

    @rule(early=st.booleans())
    def measure(self, early: bool = False) -> None:
        """early: models that are still loading have taken all their memory already; else none of it yet."""
        self.unmeasured = False
        taken = len(self.in_state("ready", "stopping", *(["starting"] if early else [])))
        self.feed(Measured(machine((ROOM - taken) * SIZE)))

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0, 400.0]))
    def let_time_go_by(self, seconds: float) -> None:
        """A tick at every deadline, as the supervisor's alarm rings."""
        end_s = self.now_s + seconds
        while (due_s := self.scheduler.deadline_s) <= end_s:
            assert due_s > self.now_s, "a deadline that has been kept is none any more"
            self.now_s = due_s
            self.feed(Tick())
        self.now_s = end_s

    @invariant()
    def agrees_about_processes(self) -> None:
        assert set(self.scheduler.workers) == set(self.processes)
        assert set(self.scheduler.waiting) == set(self.tickets)
        assert {place.model for place in self.scheduler.places()} == set(self.tickets.values())

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """With everything idle and measured, a ticket waits for a named moment, or is not left standing."""
        counted = all(worker.counted for worker in self.scheduler.workers.values())
        settled = counted and not self.unmeasured and not self.in_state("starting", "stopping")
        if settled and not self.holds and self.tickets:
            pinned = [name for name, how in self.kept.items() if how == "pinned"]
            assert self.now_s < self.scheduler.deadline_s < math.inf, (self.scheduler.places(), pinned)

    @invariant()
    def nobody_stays_for_nothing(self) -> None:
        """What was idle for longer than it may is gone, but for what is to be kept and what is wanted."""
        for name in self.in_state("ready"):
            if name not in self.kept and name not in self.tickets.values():
                assert self.scheduler.expires_s(name) >= self.now_s


class LongWorld(World):
    """The same, for as long as it takes: ten seconds of processor time."""


TestLaws = World.TestCase
TestLaws.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

TestLawsAtLength = LongWorld.TestCase
TestLawsAtLength.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestLawsAtLength = pytest.mark.slow(pytest.mark.timeout(600)(TestLawsAtLength))
