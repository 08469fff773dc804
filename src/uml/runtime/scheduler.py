"""Who is served, who waits, who starts and who must leave: `on(event) -> [effect]`.

Pure: no clock, no tasks, no processes, no log. Its laws, held by property tests:

- one Grant for a ticket, at most, and never after it left;
- one Start, then exactly one of Ready, Failed, Exited; one worker a model;
- a busy model is never stopped to make room;
- memory is free when it was measured after the exit, not when it was asked for;
- a ticket that left causes no load;
- a request for a loaded model may pass one that waits for memory, FAIRNESS times.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from uml.core.errors import Cancelled, DoesNotFit, Overloaded, UmlError
from uml.core.machine import Machine
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.evict import Running
from uml.runtime.events import (
    Asked,
    Effect,
    Event,
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

FAIRNESS = 8
"""How many requests for loaded models may pass one that waits for their memory."""


@dataclass(slots=True)
class Worker:
    """A model's worker as the scheduler knows it.

    asked: the options it was asked for, before anything was resolved.
    holders: granted tickets and the slots they take.
    used: the order of its last use; the lowest is the least recently used.
    leaving: it was asked to unload while busy.
    counted: its memory was taken when the machine was last measured.
    """

    plan: LoadPlan
    asked: LoadOptions
    state: str = "starting"
    holders: dict[int, int] = field(default_factory=dict)
    used: int = 0
    leaving: bool = False
    counted: bool = False

    @property
    def idle(self) -> bool:
        """Ready, and nobody uses it."""
        return self.state == "ready" and not self.holders

    @property
    def free_slots(self) -> int:
        """Slots that nobody holds."""
        return self.plan.options.parallel - sum(self.holders.values())

    def serves(self, wanted: Asked) -> bool:
        """Whether it is loaded the way that a request wants."""
        loaded, options = self.plan.options, wanted.options
        if not all(getattr(loaded, flag) for flag in wanted.needs):
            return False
        if options is None or options == self.asked:
            return True
        return all(getattr(loaded, name) == getattr(options, name) for name in options.changed())


@dataclass(slots=True)
class Waiter:
    """A ticket in the queue. `passed`: how many overtook it while it waited for memory."""

    asked: Asked
    passed: int = 0


@dataclass(slots=True)
class Walk:
    """What one walk through the queue has found so far.

    full: models of which an earlier ticket waits for a slot or a reload.
    starved: the first ticket that waits for memory; later ones may pass it only so often.
    wanted: the models whose memory it needs.
    """

    full: set[str] = field(default_factory=set)
    starved: Waiter | None = None
    wanted: set[str] = field(default_factory=set)


class Scheduler:
    """Owned by one task; see the module's docstring for its laws."""

    def __init__(
        self,
        planner: Planner,
        machine: Machine,
        defaults: LoadOptions | None = None,
        queue_limit: int = 512,
    ) -> None:
        self.workers: dict[str, Worker] = {}
        self.waiting: dict[int, Waiter] = {}
        self._planner = planner
        self._machine = machine
        self._defaults = defaults or LoadOptions()
        self._queue_limit = queue_limit
        self._holds: dict[int, str] = {}
        self._wishes: dict[str, LoadOptions] = {}
        """The options with which each model was last loaded well: after a crash or an eviction it comes back so."""
        self._clock = 0
        self._unmeasured = False

    def on(self, event: Event) -> list[Effect]:
        """Take one event in and give back what must be done now, in order."""
        match event:
            case Asked():
                if len(self.waiting) >= self._queue_limit:
                    error = Overloaded(f"{self._queue_limit} requests are waiting already; try again later")
                    return [Refuse(event.ticket, error)]
                self.waiting[event.ticket] = Waiter(event)
            case Left(ticket, abandon):
                return [*self._leave(ticket, abandon), *self._settle()]
            case Released(ticket):
                self._release(ticket)
            case Ready(model):
                worker = self.workers[model]
                self._wishes[model] = worker.asked
                if worker.state == "starting":
                    worker.state = "ready"
            case Failed(model, error):
                del self.workers[model]
                self._unmeasured = True
                return [*self._refuse(self._waiters(model), error), *self._settle()]
            case Exited(model):
                del self.workers[model]
                self._unmeasured = True
            case Measured(machine):
                self._measured(machine)
            case Unload(models):
                return [*self._unload(models), *self._settle()]
        return self._settle()

    def _measured(self, machine: Machine) -> None:
        self._machine = machine
        self._unmeasured = False
        for worker in self.workers.values():
            worker.counted = worker.state != "starting"

    def position(self, ticket: int) -> int:
        """1 for the first in the queue, 0 for one that does not wait."""
        return next((place for place, waiting in enumerate(self.waiting, 1) if waiting == ticket), 0)

    def queued(self, model: str) -> int:
        """How many wait for this model."""
        return len(self._waiters(model))

    def _waiters(self, model: str) -> list[int]:
        return [ticket for ticket, waiter in self.waiting.items() if waiter.asked.model.id == model]

    def _refuse(self, tickets: Iterable[int], error: UmlError) -> list[Effect]:
        for ticket in (refused := list(tickets)):
            del self.waiting[ticket]
        return [Refuse(ticket, error) for ticket in refused]

    def _leave(self, ticket: int, abandon: bool) -> list[Effect]:
        waiter = self.waiting.pop(ticket, None)
        if waiter is None:
            # The grant and the farewell crossed: the hold must not stay behind.
            self._release(ticket)
            return []
        model = waiter.asked.model.id
        worker = self.workers.get(model)
        if abandon and worker and worker.state == "starting" and not self._waiters(model):
            return self._stop(model)
        return []

    def _release(self, ticket: int) -> None:
        model = self._holds.pop(ticket, None)
        worker = self.workers.get(model) if model else None
        if worker and worker.holders.pop(ticket, None) is not None:
            self._clock += 1
            worker.used = self._clock

    def _unload(self, models: Iterable[str]) -> list[Effect]:
        effects: list[Effect] = []
        for model in models:
            self._wishes.pop(model, None)
            if (worker := self.workers.get(model)) is None or worker.state == "stopping":
                continue
            if worker.state == "starting":
                effects += self._refuse(self._waiters(model), Cancelled(f"the load of {model} was cancelled"))
                effects += self._stop(model)
            elif worker.holders:
                worker.leaving = True
            else:
                effects += self._stop(model)
        return effects

    def _stop(self, model: str) -> list[Effect]:
        self.workers[model].state = "stopping"
        return [Stop(model)]

    def _settle(self) -> list[Effect]:
        """Give out what can be given, in the order of the queue."""
        effects: list[Effect] = []
        for model, worker in self.workers.items():
            if worker.leaving and worker.idle:
                effects += self._stop(model)
        walk = Walk()
        for ticket, waiter in list(self.waiting.items()):
            worker_now = self.workers.get(waiter.asked.model.id)
            if worker_now is not None:
                effects += self._serve(ticket, waiter, worker_now, walk)
            elif walk.starved is None:
                effects += self._load(ticket, waiter, walk)
        return effects

    def _serve(self, ticket: int, waiter: Waiter, worker: Worker, walk: Walk) -> list[Effect]:
        """Grant a ticket whose model has a worker, or let it wait."""
        model = waiter.asked.model.id
        if model in walk.full or worker.state != "ready" or worker.leaving:
            return []
        if not worker.serves(waiter.asked):
            walk.full.add(model)
            return self._stop(model) if worker.idle else []
        starved = walk.starved if model in walk.wanted else None
        no_slot = waiter.asked.slots > worker.free_slots and worker.holders
        if no_slot or (starved is not None and starved.passed >= FAIRNESS):
            walk.full.add(model)
            return []
        if starved is not None:
            starved.passed += 1
        return [self._grant(ticket, model, worker)]

    def _grant(self, ticket: int, model: str, worker: Worker) -> Grant:
        slots = self.waiting.pop(ticket).asked.slots
        worker.holders[ticket] = slots
        self._holds[ticket] = model
        self._clock += 1
        worker.used = self._clock
        return Grant(ticket, model)

    def _draining(self) -> bool:
        """Whether memory is on its way back: until it was measured nothing new is planned."""
        return self._unmeasured or any(worker.state == "stopping" for worker in self.workers.values())

    def _load(self, ticket: int, waiter: Waiter, walk: Walk) -> list[Effect]:
        """Start a model, or make room for it, or refuse its ticket; what it must wait for goes into `walk`."""
        if self._draining():
            walk.starved = waiter
            return []
        model = waiter.asked.model
        options = self._wish(waiter.asked)
        try:
            plan = self._planner(model, options, self._spare(), self._running(pretend_idle=False))
        except DoesNotFit as shortage:
            # It may fit once those that are busy now are done; if not even then, it never will.
            try:
                later = self._planner(model, options, self._spare(), self._running(pretend_idle=True))
            except UmlError:
                return self._refuse([ticket], shortage)
            walk.starved, walk.wanted = waiter, set(later.evict)
            return []
        except UmlError as error:
            return self._refuse([ticket], error)
        if plan.evict:
            walk.starved, walk.wanted = waiter, set(plan.evict)
            return [effect for victim in plan.evict for effect in self._stop(victim)]
        self.workers[model.id] = Worker(plan, options)
        return [Start(plan)]

    def _wish(self, asked: Asked) -> LoadOptions:
        """The options to load a model with, for this request."""
        options = asked.options or self._wishes.get(asked.model.id, self._defaults)
        missing: dict[str, Any] = {flag: True for flag in asked.needs if not getattr(options, flag)}
        return replace(options, **missing) if missing else options

    def outlook(self, asked: Asked) -> tuple[LoadOptions, Machine, list[Running]]:
        """What the planner would be given for this request now."""
        return self._wish(asked), self._spare(), self._running(pretend_idle=False)

    def _running(self, pretend_idle: bool) -> list[Running]:
        return [
            Running(
                model=model,
                bytes=worker.plan.footprint.total_bytes,
                idle_order=worker.used,
                busy=not worker.idle and not pretend_idle,
                device_bytes=worker.plan.placement.device_bytes,
                mapped_bytes=worker.plan.footprint.mapped_bytes,
            )
            for model, worker in self.workers.items()
        ]

    def _spare(self) -> Machine:
        """The machine as measured, less what models that were loading then will take."""
        promised: dict[str, int] = {}
        for worker in self.workers.values():
            if not worker.counted:
                for device, count in worker.plan.placement.device_bytes.items():
                    promised[device] = promised.get(device, 0) + count
        if not promised:
            return self._machine

        def less(device_id: str, free: int) -> int:
            return max(0, free - promised.get(device_id, 0))

        memory, gpus = self._machine.memory, self._machine.gpus
        return replace(
            self._machine,
            memory=replace(memory, free_bytes=less(memory.id, memory.free_bytes)),
            gpus=tuple(replace(gpu, free_bytes=less(gpu.id, gpu.free_bytes)) for gpu in gpus),
        )
