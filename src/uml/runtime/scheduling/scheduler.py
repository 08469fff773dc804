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
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from uml.core.engine import Precaution
from uml.core.errors import Cancelled, Overloaded, UmlError, WorkerDied
from uml.core.machine import Machine
from uml.core.options import OPTIONS, LoadOptions
from uml.planning.evict import Running
from uml.runtime.scheduling.books import Books
from uml.runtime.scheduling.events import (
    Asked,
    Effect,
    Event,
    Exited,
    Failed,
    Keep,
    Kept,
    Left,
    Measured,
    Planner,
    Ready,
    Refuse,
    Released,
    Tick,
    Unload,
    Weighed,
)
from uml.runtime.scheduling.policy import Policy
from uml.runtime.scheduling.queue import Place, Waiter, shown
from uml.runtime.scheduling.recipes import Recipes, shortage_of
from uml.runtime.scheduling.residency import Resident
from uml.runtime.scheduling.walk import fulfil, settle
from uml.runtime.scheduling.wishes import Absent

_ALL_OPTIONS: Final = frozenset(option.name for option in OPTIONS)


class Scheduler:
    """Owned by one task; see the module's docstring for its laws.

    honours: names of the options that an engine knows, by the engine's name; precautions: what may help it after an
    abort.
    """

    def __init__(
        self,
        planner: Planner,
        machine: Machine,
        defaults: LoadOptions | None = None,
        policy: Policy | None = None,
        honours: Callable[[str], Collection[str]] = lambda engine: _ALL_OPTIONS,
        precautions: Callable[[str], Sequence[Precaution]] = lambda engine: (),
    ) -> None:
        recipes = Recipes(defaults or LoadOptions(), honours, precautions)
        self._books = Books(planner, machine, policy or Policy(), recipes)

    def on(self, event: Event, now_s: float | None = None) -> list[Effect]:
        """Take one event in and give back what must be done now, in order. now_s: None for as before."""
        books = self._books
        books.now_s = books.now_s if now_s is None else max(now_s, books.now_s)
        before: list[Effect] = []
        match event:
            case Asked():
                if refused := self._ask(event):
                    return refused
            case Left(ticket, abandon):
                before = self._leave(ticket, abandon)
            case Released(ticket):
                books.release(ticket)
            case Ready(model):
                self._ready(books.workers[model])
            case Failed(model, error):
                before = self._failed(model, error)
            case Exited(model, error):
                self._exited(model, error)
            case Measured() | Weighed():
                books.learn(event)
            case Unload(models):
                before = self._unload(models)
            case Keep():
                books.keep(event)
        effects = [*before, *settle(books)]
        if isinstance(event, Measured | Keep | Tick):
            effects += fulfil(books)
        return effects

    # What others may know.

    @property
    def workers(self) -> dict[str, Resident]:
        """The workers by model."""
        return self._books.workers

    @property
    def waiting(self) -> dict[int, Waiter]:
        """Who waits, by ticket, in order."""
        return self._books.waiting

    @property
    def deadline_s(self) -> float:
        """When something is due though nothing happens: a Tick is wanted then. Infinity for never."""
        books, moments = self._books, [math.inf]
        wanted = {waiter.asked.model.id for waiter in books.waiting.values()}
        for model, worker in books.workers.items():
            if worker.idle and model not in wanted:
                moments.append(books.expires_s(model))
        asked = [waiter.asked for waiter in books.waiting.values()]
        for one in (*asked, *(Asked(0, wish.model) for wish in books.wishes)):
            if one.model.id not in books.workers:
                moments.append(books.paused_until_s(one))
                moments.append(books.turns.until_s(one.model.id, books.now_s) or math.inf)
        return min(moments)

    def position(self, ticket: int) -> int:
        """1 for the first in the queue, 0 for one that does not wait."""
        return next((place for place, waiting in enumerate(self.waiting, 1) if waiting == ticket), 0)

    def places(self, now_s: float | None = None) -> tuple[Place, ...]:
        """Who waits, in order. now_s: None for the moment of the last event."""
        return tuple(self._shown(waiter, place, now_s) for place, waiter in enumerate(self.waiting.values(), 1))

    def place(self, ticket: int) -> Place | None:
        """The place of one that waits."""
        waiter = self.waiting.get(ticket)
        return self._shown(waiter, self.position(ticket)) if waiter else None

    def _shown(self, waiter: Waiter, position: int, now_s: float | None = None) -> Place:
        return shown(waiter, position, self._books.now_s if now_s is None else now_s, self.workers)

    def queued(self, model: str) -> int:
        """How many wait for this model."""
        return len(self._books.waiters(model))

    def kept(self, model: str) -> Kept:
        """Whether it is to be there."""
        return self._books.wishes.how(model)

    @property
    def wished(self) -> tuple[str, ...]:
        """The models that are to be there."""
        return tuple(wish.model.id for wish in self._books.wishes)

    @property
    def absent(self) -> tuple[Absent, ...]:
        """Those of them that have no worker."""
        return tuple(
            Absent(wish.model.id, wish.how, wish.missed.as_dict()["error"] if wish.missed else None)
            for wish in self._books.wishes
            if wish.model.id not in self.workers
        )

    def expires_s(self, model: str) -> float:
        """When it is unloaded for being idle; infinity: not while things are as they are."""
        return self._books.expires_s(model)

    def retry_at_s(self, model: str) -> float | None:
        """When a request may load a model that failed or died; infinity: only a person may; None: nothing is wrong."""
        return self._books.breaker.retry_at_s(model)

    def quarantine(self, model: str) -> UmlError | None:
        """Why no request brings it back; None where one does."""
        return self._books.breaker.quarantine(model)

    def held_back(self, model: str) -> bool:
        """Whether something went wrong with this model which a changed file would mend."""
        return self._books.breaker.holds(model)

    def serves(self, asked: Asked) -> bool:
        """Whether the model is loaded, or loading, the way that this request wants."""
        worker = self.workers.get(asked.model.id)
        return worker is not None and worker.serves(asked)

    def outlook(self, asked: Asked) -> tuple[LoadOptions, Machine, list[Running]]:
        """What the planner would be given for this request now."""
        books = self._books
        return books.recipes.of(asked).given, books.spare, books.running(asked.model.id)

    # Events.

    def _ask(self, asked: Asked) -> list[Effect]:
        books, limit = self._books, self._books.policy.queue_limit
        if len(books.waiting) >= limit:
            return [Refuse(asked.ticket, Overloaded(f"{limit} requests are waiting already; try again later"))]
        if asked.person and not self.serves(asked):
            books.breaker.lift(asked.model.id)
            books.recipes.restore(asked.model.id)
        books.waiting[asked.ticket] = Waiter(asked, books.now_s)
        return []

    def _leave(self, ticket: int, abandon: bool) -> list[Effect]:
        books = self._books
        waiter = books.waiting.pop(ticket, None)
        if waiter is None:
            # The grant and the farewell crossed: the hold must not stay behind.
            books.release(ticket)
            return []
        books.forget(waiter)
        model = waiter.asked.model.id
        worker = books.workers.get(model)
        starting = worker is not None and worker.state == "starting"
        if abandon and starting and not books.waiters(model) and not self.kept(model):
            return books.stop(model, "abandoned")
        return []

    def _ready(self, worker: Resident) -> None:
        books, model = self._books, worker.plan.model.id
        worker.load_s = books.now_s - worker.started_s
        worker.idle_since_s = books.now_s
        if worker.state == "starting":
            worker.state = "ready"
            books.recipes.worked(model, worker.recipe)
            books.breaker.served(worker.plan.asked, worker.asked)
            books.turns.ready(model, books.now_s)
            books.wishes.came_true(model)

    def _failed(self, model: str, error: UmlError) -> list[Effect]:
        books = self._books
        worker = books.gone(model)
        # With less, a conversion would take as much.
        if not worker.plan.converts and books.recipes.less(worker.recipe, worker.plan, error):
            return []
        books.recipes.failed(model, worker.recipe)
        books.breaker.failed(worker.plan.asked, worker.asked, error, books.now_s)
        return books.refuse(books.waiters(model), error)

    def _exited(self, model: str, error: UmlError | None) -> None:
        books = self._books
        worker = books.gone(model)
        if worker.state == "ready":
            served_s = books.now_s - worker.started_s - worker.load_s
            cause = error or WorkerDied(model, "its process ended")
            deaths = books.breaker.died(worker.plan.asked, worker.asked, cause, served_s, books.now_s)
            # Another program may have taken the memory, once: what worked is not given up for that.
            if deaths > 1 or not shortage_of(cause):
                books.recipes.less(worker.recipe, worker.plan, cause)

    def _unload(self, models: Iterable[str]) -> list[Effect]:
        books, effects = self._books, list[Effect]()
        for model in models:
            books.unsay(model)
            if (worker := books.workers.get(model)) is None or worker.state == "stopping":
                continue
            if worker.state == "starting":
                gone = Cancelled(f"{model} was unloaded while it was loading; ask again to have it loaded again")
                effects += books.refuse(books.waiters(model), gone)
                effects += books.stop(model, "unloaded")
            elif worker.holders:
                worker.leaving = True
            else:
                effects += books.stop(model, "unloaded")
        return effects
