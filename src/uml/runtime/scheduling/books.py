"""What the scheduler knows, and the steps by which that changes: plain bookkeeping, without a decision."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from uml.core.errors import UmlError
from uml.core.machine import Machine
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.planning.evict import Running
from uml.runtime.scheduling.breaker import Breaker
from uml.runtime.scheduling.events import (
    Asked,
    Effect,
    Grant,
    Keep,
    Measured,
    Planner,
    Reason,
    Refuse,
    Start,
    Stop,
    Weighed,
)
from uml.runtime.scheduling.policy import Policy
from uml.runtime.scheduling.queue import Waiter
from uml.runtime.scheduling.recipes import Recipe, Recipes
from uml.runtime.scheduling.residency import Resident, spare
from uml.runtime.scheduling.turns import Turns
from uml.runtime.scheduling.wishes import Wishes

CONVERTING_BYTES: Final = 64 << 20
"""Of memory, for the process that converts a model: a few MiB of the file at a time, and Python."""


class Books:
    """Who has a worker, who waits, what is to be there, and what the machine had when it was last measured.

    workers: by model; waiting: by ticket, in the order of the queue. now_s: the moment of the event that is dealt
    with.
    """

    def __init__(self, planner: Planner, machine: Machine, policy: Policy, recipes: Recipes) -> None:
        self.workers: dict[str, Resident] = {}
        self.waiting: dict[int, Waiter] = {}
        self.wishes = Wishes()
        self.policy = policy
        self.breaker = Breaker(policy)
        self.turns = Turns(policy.turn_s)
        self.recipes = recipes
        self.now_s = 0.0
        self._planner = planner
        self._machine = machine
        self._holds: dict[int, str] = {}
        self._stays_s: dict[str, float] = {}
        self._order = 0
        self._unmeasured = False

    # What is.

    def waiters(self, model: str) -> list[int]:
        """The tickets that wait for this model."""
        return [ticket for ticket, waiter in self.waiting.items() if waiter.asked.model.id == model]

    def expires_s(self, model: str) -> float:
        """When it is unloaded for being idle; infinity: not while things are as they are."""
        worker = self.workers.get(model)
        return worker.expires_s(self.policy.idle_unload_s, self.wishes.how(model)) if worker else math.inf

    def paused_until_s(self, asked: Asked) -> float:
        """When this request may start its model again, after a death; infinity where nothing but others keeps it."""
        options = self.recipes.of(asked).asked
        return self.breaker.pause_until_s(asked.model, options, self.now_s) or math.inf

    @property
    def draining(self) -> bool:
        """Whether memory is on its way back: until it was measured nothing new is planned."""
        return self._unmeasured or any(worker.state == "stopping" for worker in self.workers.values())

    @property
    def spare(self) -> Machine:
        """The machine with what is free on it, and promised to nobody."""
        return spare(self._machine, self.workers.values())

    def plan(self, asked: Asked, recipe: Recipe, *, pretend_idle: bool = False, all_busy: bool = False) -> LoadPlan:
        """The load with this recipe, for the machine as it is; a worker that is there already gives way to it.

        Raises what the planner does.
        """
        running = self.running(asked.model.id, pretend_idle=pretend_idle, all_busy=all_busy)
        return self._planner(asked.model, recipe.given, self.spare, running, asked.wants)

    def fits_beside(self, asked: Asked, other: str) -> bool:
        """Whether this request could be met with the other model there, and everybody else done."""
        running = [replace(one, busy=one.model == other) for one in self.running(asked.model.id, pretend_idle=True)]
        try:
            self._planner(asked.model, self.recipes.of(asked).given, self.spare, running, asked.wants)
        except UmlError:
            return False
        return True

    def may_yet_fit(self, asked: Asked) -> bool:
        """Whether this request might be met once all workers were measured, everybody being done.

        What a load had taken when the machine was last measured stands in that figure and in its promise, twice.
        """
        if all(worker.counted for worker in self.workers.values()):
            return False
        running = self.running(asked.model.id, pretend_idle=True)
        try:
            self._planner(asked.model, self.recipes.of(asked).given, self._machine, running, asked.wants)
        except UmlError:
            return False
        return True

    def running(self, wanted: str, *, pretend_idle: bool = False, all_busy: bool = False) -> list[Running]:
        """The workers as planning sees them when it plans this model: its own gives way."""
        return [
            worker.running(
                self.now_s,
                "" if model == wanted else self.wishes.how(model),
                busy=model != wanted and (all_busy or not (worker.idle or pretend_idle)),
            )
            for model, worker in self.workers.items()
        ]

    # What changes.

    def learn(self, seen: Measured | Weighed) -> None:
        """Take in what was measured, of the machine or of one worker."""
        if isinstance(seen, Weighed):
            if worker := self.workers.get(seen.model):
                worker.weighed = seen
            return
        self._machine = seen.machine
        self._unmeasured = False
        for worker in self.workers.values():
            worker.counted = worker.state != "starting"

    def keep(self, wish: Keep) -> None:
        """Note that a model is to be there, or need not be any more."""
        if wish.how:
            self.wishes.make(wish.model, wish.how)
            if wish.options is not None:
                self.recipes.expect(wish.model.id, wish.options)
        elif self.wishes.drop(wish.model.id) and (worker := self.workers.get(wish.model.id)):
            # Its time without a request begins now.
            worker.idle_since_s = self.now_s

    def unsay(self, model: str) -> None:
        """Whoever unloads a model does not want it back, whatever was said of it before."""
        self.recipes.forget(model)
        self.wishes.drop(model)
        self._stays_s.pop(model, None)

    def start(self, plan: LoadPlan, recipe: Recipe) -> Start:
        """A worker for this plan, or for the conversion that must come first: it is planned anew after that."""
        if plan.converts:
            # Little memory, and nobody's place: what the model takes is asked for when it can be loaded.
            size = min(CONVERTING_BYTES, plan.footprint.total_bytes)
            placement = Placement({self._machine.memory.id: size}, reason="it is converted first")
            plan = replace(plan, footprint=Footprint(0, 0, size), placement=placement, evict=())
        if recipe.less:
            plan = replace(plan, warnings=(*plan.warnings, *recipe.less))
        worker = self.workers[plan.model.id] = Resident(plan, recipe, self.now_s)
        # How long it stays was said of the model: it holds for the worker that comes after one that was in the way.
        worker.keep_alive_s = self._stays_s.get(plan.model.id, worker.keep_alive_s)
        return Start(plan)

    def stop(self, model: str, reason: Reason) -> list[Effect]:
        """Its worker is told to go."""
        self.workers[model].state = "stopping"
        if reason == "idle":
            self._stays_s.pop(model, None)
        return [Stop(model, reason)]

    def gone(self, model: str) -> Resident:
        """Its process has ended; what it held is free when it was measured."""
        self._unmeasured = True
        self.turns.ended(model)
        return self.workers.pop(model)

    def grant(self, ticket: int, worker: Resident) -> Grant:
        """A ticket has its worker."""
        asked = self.waiting.pop(ticket).asked
        worker.holders[ticket] = asked.slots
        worker.take(asked)
        if worker.keep_alive_s is not None:
            self._stays_s[asked.model.id] = worker.keep_alive_s
        self._holds[ticket] = asked.model.id
        self._used(worker)
        return Grant(ticket, asked.model.id)

    def release(self, ticket: int) -> None:
        """A ticket has given its worker back; nothing where it held none."""
        model = self._holds.pop(ticket, None)
        worker = self.workers.get(model) if model else None
        if worker and worker.holders.pop(ticket, None) is not None:
            self._used(worker)

    def refuse(self, tickets: Iterable[int], error: UmlError) -> list[Effect]:
        """These wait no longer."""
        for ticket in (refused := list(tickets)):
            self.forget(self.waiting.pop(ticket))
        return [Refuse(ticket, error) for ticket in refused]

    def forget(self, left: Waiter) -> None:
        """One that waits no longer: where nobody else wants its model, nobody need leave it a turn."""
        model = left.asked.model.id
        if model not in self.workers and not self.waiters(model):
            self.turns.ended(model)

    def _used(self, worker: Resident) -> None:
        self._order += 1
        worker.used, worker.idle_since_s = self._order, self.now_s
