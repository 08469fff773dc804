"""Who is served, who waits, who starts and who must leave: `on(event, now) -> [effect]`.

Pure: no clock, no tasks, no processes, no log. Its laws, held by property tests:

- one Grant for a ticket, at most, and never after it left;
- one Start, then exactly one of Ready, Failed, Exited; one worker a model;
- a busy model is never stopped to make room, and a pinned one neither;
- memory is free when it was measured after the exit, not when it was asked for;
- a ticket that left causes no load;
- a request for a loaded model may pass one that waits for its memory, so many times;
- a model that was evicted for another evicts nobody before that one has had its turn;
- a load that failed is not tried again before its time; a worker that died too often not at all;
- whoever must wait for time alone waits for a deadline that is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from uml.core.errors import Cancelled, DoesNotFit, Overloaded, UmlError, WorkerDied
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import OPTIONS, LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.evict import Running
from uml.runtime.breaker import Breaker
from uml.runtime.events import (
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
    Planner,
    Ready,
    Reason,
    Refuse,
    Released,
    Start,
    Stop,
    Tick,
    Unload,
    Weighed,
)
from uml.runtime.policy import Policy
from uml.runtime.queue import Place, Waiter, Walk, Why
from uml.runtime.recipes import Recipe, Recipes
from uml.runtime.residency import Resident, spare
from uml.runtime.turns import Turns

_ALL_OPTIONS: Final = frozenset(option.name for option in OPTIONS)


@dataclass(slots=True)
class Wish:
    """A model that is to be there. missed: the code of the reason why it is not, as it was told last."""

    model: Model
    how: Kept
    missed: str = ""


class Scheduler:
    """Owned by one task; see the module's docstring for its laws.

    honours: names of the options that an engine knows, by the engine's name.
    """

    def __init__(
        self,
        planner: Planner,
        machine: Machine,
        defaults: LoadOptions | None = None,
        policy: Policy | None = None,
        honours: Callable[[str], Collection[str]] = lambda engine: _ALL_OPTIONS,
    ) -> None:
        self.workers: dict[str, Resident] = {}
        self.waiting: dict[int, Waiter] = {}
        self._planner = planner
        self._machine = machine
        self._policy = policy or Policy()
        self._breaker = Breaker(self._policy)
        self._turns = Turns(self._policy.turn_s)
        self._holds: dict[int, str] = {}
        self._recipes = Recipes(defaults or LoadOptions(), honours)
        self._wishes: dict[str, Wish] = {}
        self._order = 0
        self._now_s = 0.0
        self._unmeasured = False

    def on(self, event: Event, now_s: float | None = None) -> list[Effect]:
        """Take one event in and give back what must be done now, in order. now_s: None for as before."""
        self._now_s = self._now_s if now_s is None else max(now_s, self._now_s)
        before: list[Effect] = []
        match event:
            case Asked():
                if refused := self._ask(event):
                    return refused
            case Left(ticket, abandon):
                before = self._leave(ticket, abandon)
            case Released(ticket):
                self._release(ticket)
            case Ready(model):
                self._ready(self.workers[model])
            case Failed(model, error):
                before = self._failed(model, error)
            case Exited(model, error):
                self._exited(model, error)
            case Measured() | Weighed():
                self._learn(event)
            case Unload(models):
                before = self._unload(models)
            case Keep(model, how):
                self._keep(model, how)
        effects = [*before, *self._settle()]
        if isinstance(event, Measured | Keep | Tick):
            effects += self._fulfil()
        return effects

    # What others may know.

    @property
    def deadline_s(self) -> float:
        """When something is due though nothing happens: a Tick is wanted then. Infinity for never."""
        moments = [math.inf]
        wanted = {waiter.asked.model.id for waiter in self.waiting.values()}
        for model, worker in self.workers.items():
            if worker.idle and model not in wanted:
                moments.append(worker.expires_s(self._policy.idle_unload_s, self.kept(model)))
        asked = [waiter.asked for waiter in self.waiting.values()]
        for one in (*asked, *(Asked(0, wish.model) for wish in self._wishes.values())):
            if one.model.id not in self.workers:
                moments.append(self._paused_until_s(one))
                moments.append(self._turns.until_s(one.model.id, self._now_s) or math.inf)
        return min(moments)

    def position(self, ticket: int) -> int:
        """1 for the first in the queue, 0 for one that does not wait."""
        return next((place for place, waiting in enumerate(self.waiting, 1) if waiting == ticket), 0)

    def places(self) -> tuple[Place, ...]:
        """Who waits, in order."""
        return tuple(
            Place(waiter.asked.model.id, place, max(0.0, self._now_s - waiter.since_s), waiter.why)
            for place, waiter in enumerate(self.waiting.values(), 1)
        )

    def queued(self, model: str) -> int:
        """How many wait for this model."""
        return len(self._waiters(model))

    def kept(self, model: str) -> Kept:
        """Whether it is to be there."""
        wish = self._wishes.get(model)
        return wish.how if wish else ""

    def expires_s(self, model: str) -> float:
        """When it is unloaded for being idle; infinity: not while things are as they are."""
        worker = self.workers.get(model)
        return worker.expires_s(self._policy.idle_unload_s, self.kept(model)) if worker else math.inf

    def retry_at_s(self, model: str) -> float | None:
        """When a request may load a model that failed or died; infinity: only a person may; None: nothing is wrong."""
        return self._breaker.retry_at_s(model)

    def quarantine(self, model: str) -> UmlError | None:
        """Why no request brings it back; None where one does."""
        return self._breaker.quarantine(model)

    def held_back(self, model: str) -> bool:
        """Whether something went wrong with this model which a changed file would mend."""
        return self._breaker.holds(model)

    def serves(self, asked: Asked) -> bool:
        """Whether the model is loaded, or loading, the way that this request wants."""
        worker = self.workers.get(asked.model.id)
        return worker is not None and worker.serves(asked)

    def outlook(self, asked: Asked) -> tuple[LoadOptions, Machine, list[Running]]:
        """What the planner would be given for this request now."""
        return self._recipes.of(asked).given, spare(self._machine, self.workers.values()), self._running(asked.model.id)

    # Events.

    def _ask(self, asked: Asked) -> list[Effect]:
        if len(self.waiting) >= self._policy.queue_limit:
            error = Overloaded(f"{self._policy.queue_limit} requests are waiting already; try again later")
            return [Refuse(asked.ticket, error)]
        if asked.person and not self.serves(asked):
            self._breaker.lift(asked.model.id)
            self._recipes.restore(asked.model.id)
        self.waiting[asked.ticket] = Waiter(asked, self._now_s)
        return []

    def _leave(self, ticket: int, abandon: bool) -> list[Effect]:
        waiter = self.waiting.pop(ticket, None)
        if waiter is None:
            # The grant and the farewell crossed: the hold must not stay behind.
            self._release(ticket)
            return []
        model = waiter.asked.model.id
        worker = self.workers.get(model)
        if worker is None and not self._waiters(model):
            self._turns.ended(model)
        if abandon and worker and worker.state == "starting" and not self._waiters(model) and not self.kept(model):
            return self._stop(model, "abandoned")
        return []

    def _release(self, ticket: int) -> None:
        model = self._holds.pop(ticket, None)
        worker = self.workers.get(model) if model else None
        if worker and worker.holders.pop(ticket, None) is not None:
            self._used(worker)

    def _ready(self, worker: Resident) -> None:
        model = worker.plan.model.id
        worker.load_s = self._now_s - worker.started_s
        worker.idle_since_s = self._now_s
        if worker.state == "starting":
            worker.state = "ready"
            self._recipes.worked(model, worker.recipe)
            self._breaker.served(worker.plan.model, worker.asked)
            self._turns.ready(model, self._now_s)
            if wish := self._wishes.get(model):
                wish.missed = ""

    def _failed(self, model: str, error: UmlError) -> list[Effect]:
        worker = self._gone(model)
        if self._recipes.less(worker.recipe, worker.plan, error):
            return []
        self._recipes.failed(model, worker.recipe)
        self._breaker.failed(worker.plan.model, worker.asked, error, self._now_s)
        return self._refuse(self._waiters(model), error)

    def _gone(self, model: str) -> Resident:
        """Its process has ended; what it held is free when it was measured."""
        self._unmeasured = True
        self._turns.ended(model)
        return self.workers.pop(model)

    def _exited(self, model: str, error: UmlError | None) -> None:
        worker = self._gone(model)
        if worker.state == "ready":
            served_s = self._now_s - worker.started_s - worker.load_s
            cause = error or WorkerDied(model, "its process ended")
            self._breaker.died(worker.plan.model, worker.asked, cause, served_s, self._now_s)

    def _learn(self, seen: Measured | Weighed) -> None:
        if isinstance(seen, Weighed):
            if worker := self.workers.get(seen.model):
                worker.weighed = seen
            return
        self._machine = seen.machine
        self._unmeasured = False
        for worker in self.workers.values():
            worker.counted = worker.state != "starting"

    def _unload(self, models: Iterable[str]) -> list[Effect]:
        effects: list[Effect] = []
        for model in models:
            self._recipes.forget(model)
            # Whoever unloads it does not want it back, whatever was said before.
            self._wishes.pop(model, None)
            if (worker := self.workers.get(model)) is None or worker.state == "stopping":
                continue
            if worker.state == "starting":
                effects += self._refuse(self._waiters(model), Cancelled(f"the load of {model} was cancelled"))
                effects += self._stop(model, "unloaded")
            elif worker.holders:
                worker.leaving = True
            else:
                effects += self._stop(model, "unloaded")
        return effects

    def _keep(self, model: Model, how: Kept) -> None:
        if how:
            self._wishes[model.id] = Wish(model, how)
        elif self._wishes.pop(model.id, None) and (worker := self.workers.get(model.id)):
            # Its time without a request begins now.
            worker.idle_since_s = self._now_s

    # What follows from them.

    def _settle(self) -> list[Effect]:
        """Give out what can be given, in the order of the queue, and let go what nobody uses."""
        effects: list[Effect] = []
        for model, worker in self.workers.items():
            if worker.leaving and worker.idle:
                effects += self._stop(model, "unloaded")
        walk = Walk()
        for ticket, waiter in list(self.waiting.items()):
            resident = self.workers.get(waiter.asked.model.id)
            if resident is not None:
                effects += self._serve(ticket, waiter, resident, walk)
            elif walk.starved is None:
                effects += self._load(ticket, waiter, walk)
            else:
                effects += self._load_beside(ticket, waiter, walk)
        for model, worker in self.workers.items():
            if self._now_s >= worker.expires_s(self._policy.idle_unload_s, self.kept(model)):
                effects += [] if self._waiters(model) else self._stop(model, "idle")
        return effects

    def _serve(self, ticket: int, waiter: Waiter, worker: Resident, walk: Walk) -> list[Effect]:
        """Grant a ticket whose model has a worker, or let it wait."""
        model = waiter.asked.model.id
        if worker.state != "ready" or worker.leaving:
            waiter.why = "load" if worker.state == "starting" else "unload"
            return []
        if model in walk.full:
            waiter.why = "slot"
            return []
        if not worker.serves(waiter.asked):
            walk.full.add(model)
            return self._reload(ticket, waiter, worker, walk)
        no_slot = waiter.asked.slots > worker.free_slots and worker.holders
        if no_slot or not walk.passes(model, self._policy.turn_requests):
            walk.full.add(model)
            waiter.why = "slot" if no_slot else "turn"
            return []
        return [self._grant(ticket, model, worker)]

    def _reload(self, ticket: int, waiter: Waiter, worker: Resident, walk: Walk) -> list[Effect]:
        """Stop a worker that is loaded otherwise than a request wants, when it is idle and the other load is possible.

        A request that cannot be met is refused at once, and the model stays as it is.
        """
        asked, recipe = waiter.asked, self._recipes.of(waiter.asked)
        waiter.why = "reload"
        if error := self._breaker.refusal(asked.model, recipe.asked, self._now_s):
            return self._refuse([ticket], error)
        if self._draining() or (waiter.possible and not worker.idle):
            return []
        try:
            plan = self._plan(asked, recipe, pretend_idle=not worker.idle)
        except DoesNotFit as shortage:
            return self._wait_or_refuse(ticket, waiter, walk, "memory", shortage)
        except UmlError as error:
            return self._refuse([ticket], error)
        waiter.possible = True
        return self._stop(plan.model.id, "reloaded") if worker.idle else []

    def _grant(self, ticket: int, model: str, worker: Resident) -> Grant:
        asked = self.waiting.pop(ticket).asked
        worker.holders[ticket] = asked.slots
        worker.take(asked)
        self._holds[ticket] = model
        self._used(worker)
        return Grant(ticket, model)

    def _used(self, worker: Resident) -> None:
        self._order += 1
        worker.used, worker.idle_since_s = self._order, self._now_s

    def _load(self, ticket: int, waiter: Waiter, walk: Walk) -> list[Effect]:
        """Start a model, or make room for it, or refuse its ticket; what it must wait for goes into `walk`."""
        asked = waiter.asked
        model, recipe = asked.model, self._recipes.of(asked)
        if error := self._breaker.refusal(model, recipe.asked, self._now_s):
            return self._refuse([ticket], error)
        if self._pauses(waiter):
            return []
        walk.tried.add(model.id)
        if self._draining():
            walk.starve(waiter, "memory")
            return []
        in_turn = not asked.person and self._turns.until_s(model.id, self._now_s) is not None
        try:
            plan = self._plan(asked, recipe)
        except DoesNotFit as shortage:
            return self._wait_or_refuse(ticket, waiter, walk, "turn" if in_turn else "memory", shortage)
        except UmlError as error:
            return self._refuse([ticket], error)
        if not plan.evict:
            waiter.why = "load"
            return [self._start(plan, recipe)]
        walk.starve(waiter, "turn" if in_turn else "memory", plan.evict)
        if in_turn:
            return []
        self._turns.evicted(plan.evict, model.id)
        return [effect for victim in plan.evict for effect in self._stop(victim, "evicted")]

    def _wait_or_refuse(self, ticket: int, waiter: Waiter, walk: Walk, why: Why, shortage: DoesNotFit) -> list[Effect]:
        """It may fit once those that are busy now are done; if not even then, it never will."""
        try:
            later = self._plan(waiter.asked, self._recipes.of(waiter.asked), pretend_idle=True)
        except UmlError:
            return self._refuse([ticket], shortage)
        waiter.why = why
        if walk.starved is None:
            walk.starve(waiter, why, later.evict)
        return []

    def _load_beside(self, ticket: int, waiter: Waiter, walk: Walk) -> list[Effect]:
        """Start a model while an earlier ticket waits for memory, where that takes nothing from it."""
        model, recipe = waiter.asked.model, self._recipes.of(waiter.asked)
        if error := self._breaker.refusal(model, recipe.asked, self._now_s):
            return self._refuse([ticket], error)
        if self._pauses(waiter) or self._draining() or model.id in walk.tried:
            return []
        walk.tried.add(model.id)
        try:
            plan = self._plan(waiter.asked, recipe, all_busy=True)
        except UmlError:
            return []  # it is told when its turn comes: by then there may be room
        started = self._start(plan, recipe)
        assert walk.starved is not None
        first = walk.starved.asked
        everybody = self._running(first.model.id, pretend_idle=True)
        running = [replace(one, busy=one.model == model.id) for one in everybody]
        try:
            self._planner(
                first.model, self._recipes.of(first).given, spare(self._machine, self.workers.values()), running
            )
        except UmlError:
            del self.workers[model.id]
            return []
        waiter.why = "load"
        return [started]

    def _pauses(self, waiter: Waiter) -> bool:
        """Whether this model is not started again yet, after a death."""
        if self._paused_until_s(waiter.asked) == math.inf:
            return False
        waiter.why = "restart"
        return True

    def _paused_until_s(self, asked: Asked) -> float:
        """When this request may start its model again; infinity where nothing but others keeps it."""
        options = self._recipes.of(asked).asked
        return self._breaker.pause_until_s(asked.model, options, self._now_s) or math.inf

    def _fulfil(self) -> list[Effect]:
        """Load what is to be there, where memory is free and nobody else waits for it."""
        effects: list[Effect] = []
        for wish in self._wishes.values():
            model = wish.model.id
            busy = any(waiter.why in ("memory", "turn") for waiter in self.waiting.values())
            if model in self.workers or busy or self._draining():
                continue
            recipe = self._recipes.of(Asked(0, wish.model))
            if self._breaker.refusal(wish.model, recipe.asked, self._now_s):
                continue
            if self._paused_until_s(Asked(0, wish.model)) < math.inf:
                continue
            try:
                plan = self._plan(Asked(0, wish.model), recipe, all_busy=True)
            except UmlError as error:
                if wish.missed != error.code:
                    wish.missed = error.code
                    effects.append(Missed(model, error))
                continue
            effects.append(self._start(plan, recipe))
        return effects

    def _start(self, plan: LoadPlan, recipe: Recipe) -> Start:
        if recipe.less:
            plan = replace(plan, warnings=(*plan.warnings, *recipe.less))
        self.workers[plan.model.id] = Resident(plan, recipe, self._now_s)
        return Start(plan)

    def _stop(self, model: str, reason: Reason) -> list[Effect]:
        self.workers[model].state = "stopping"
        return [Stop(model, reason)]

    def _refuse(self, tickets: Iterable[int], error: UmlError) -> list[Effect]:
        for ticket in (refused := list(tickets)):
            model = self.waiting.pop(ticket).asked.model.id
            if model not in self.workers and not self._waiters(model):
                self._turns.ended(model)
        return [Refuse(ticket, error) for ticket in refused]

    # What they are decided by.

    def _waiters(self, model: str) -> list[int]:
        return [ticket for ticket, waiter in self.waiting.items() if waiter.asked.model.id == model]

    def _draining(self) -> bool:
        """Whether memory is on its way back: until it was measured nothing new is planned."""
        return self._unmeasured or any(worker.state == "stopping" for worker in self.workers.values())

    def _plan(self, asked: Asked, recipe: Recipe, *, pretend_idle: bool = False, all_busy: bool = False) -> LoadPlan:
        """The load with this recipe, for the machine as it is; a worker that is there already gives way to it."""
        running = self._running(asked.model.id, pretend_idle=pretend_idle, all_busy=all_busy)
        return self._planner(asked.model, recipe.given, spare(self._machine, self.workers.values()), running)

    def _running(self, wanted: str, *, pretend_idle: bool = False, all_busy: bool = False) -> list[Running]:
        """The workers as planning sees them when it plans this model: its own gives way."""
        return [
            worker.running(
                self._now_s,
                "" if model == wanted else self.kept(model),
                busy=model != wanted and (all_busy or not (worker.idle or pretend_idle)),
            )
            for model, worker in self.workers.items()
        ]
