"""One look at all that waits, is wished for, or is not used any more: what can be done for it now."""

from __future__ import annotations

import math

from uml.core.errors import DoesNotFit, UmlError
from uml.runtime.scheduling.books import Books
from uml.runtime.scheduling.events import Asked, BetterLater, Effect, Missed
from uml.runtime.scheduling.queue import Waiter, Why
from uml.runtime.scheduling.residency import Resident


def settle(books: Books) -> list[Effect]:
    """Give out what can be given, in the order of the queue, and let go what nobody uses."""
    effects: list[Effect] = []
    for model, worker in books.workers.items():
        if worker.leaving and worker.idle:
            effects += books.stop(model, "unloaded")
    walk = Walk(books)
    for ticket, waiter in list(books.waiting.items()):
        effects += walk.visit(ticket, waiter)
    for model in books.workers:
        if books.now_s >= books.expires_s(model):
            effects += [] if books.waiters(model) else books.stop(model, "idle")
    return effects


def fulfil(books: Books) -> list[Effect]:
    """Load what is to be there, where memory is free and nobody else waits for it."""
    effects: list[Effect] = []
    for wish in books.wishes:
        model, asked = wish.model.id, Asked(0, wish.model)
        wanted = any(waiter.why in ("memory", "turn") for waiter in books.waiting.values())
        if model in books.workers or wanted or books.draining:
            continue
        recipe = books.recipes.of(asked)
        if books.breaker.refusal(wish.model, recipe.asked, books.now_s) or books.paused_until_s(asked) < math.inf:
            continue
        try:
            plan = books.plan(asked, recipe, all_busy=True)
        except BetterLater as later:
            plan = later.now
        except UmlError as error:
            effects += [Missed(model, error)] if books.wishes.missed(model, error) else []
            continue
        effects.append(books.start(plan, recipe))
    return effects


class Walk:
    """One walk through the queue. Each ticket is granted, refused, or told what it waits for.

    full: models of which an earlier ticket waits for a slot or a reload.
    starved: the first ticket that waits for memory; later ones may pass it only so often.
    needed: the models whose memory that one needs.
    in_turn: it waits for the end of their turn, until when everybody may pass.
    tried: models without a worker that were looked at already.
    """

    def __init__(self, books: Books) -> None:
        self._books = books
        self._full: set[str] = set()
        self._starved: Waiter | None = None
        self._needed: set[str] = set()
        self._in_turn = False
        self._tried: set[str] = set()

    def visit(self, ticket: int, waiter: Waiter) -> list[Effect]:
        """What can be done for this ticket, after all that came before it."""
        resident = self._books.workers.get(waiter.asked.model.id)
        if resident is not None:
            return self._serve(ticket, waiter, resident)
        return self._load(ticket, waiter) if self._starved is None else self._load_beside(ticket, waiter, self._starved)

    # With a worker.

    def _serve(self, ticket: int, waiter: Waiter, worker: Resident) -> list[Effect]:
        """Grant a ticket whose model has a worker, or let it wait."""
        model = waiter.asked.model.id
        if worker.state != "ready" or worker.leaving:
            waiter.wait_for("load" if worker.state == "starting" else "unload")
            return []
        if model in self._full:
            waiter.wait_for("slot")
            return []
        if not worker.serves(waiter.asked):
            self._full.add(model)
            return self._reload(ticket, waiter, worker)
        no_slot = waiter.asked.slots > worker.free_slots and worker.holders
        if no_slot:
            self._full.add(model)
            waiter.wait_for("slot")
            return []
        if self._starved is not None and not self._passes(model, self._starved):
            self._full.add(model)
            waiter.wait_for("turn", (self._starved.asked.model.id,))
            return []
        return [self._books.grant(ticket, worker)]

    def _passes(self, model: str, starved: Waiter) -> bool:
        """Whether a later request for a loaded model may be served before the starved one; counts it."""
        if model not in self._needed or self._in_turn:
            return True
        if starved.passed >= self._books.policy.turn_requests:
            return False
        starved.passed += 1
        return True

    def _reload(self, ticket: int, waiter: Waiter, worker: Resident) -> list[Effect]:
        """Stop a worker that is loaded otherwise than a request wants, when it is idle and the other load is possible.

        A request that cannot be met is refused at once, and the model stays as it is.
        """
        books, asked = self._books, waiter.asked
        recipe = books.recipes.of(asked)
        waiter.wait_for("reload")
        if error := books.breaker.refusal(asked.model, recipe.asked, books.now_s):
            return books.refuse([ticket], error)
        if books.draining or (waiter.possible and not worker.idle):
            return []
        try:
            plan = books.plan(asked, recipe, pretend_idle=not worker.idle)
        except DoesNotFit as shortage:
            return self._wait_or_refuse(ticket, waiter, "memory", shortage)
        except UmlError as error:
            return books.refuse([ticket], error)
        waiter.possible = True
        return books.stop(plan.model.id, "reloaded") if worker.idle else []

    # Without one.

    def _load(self, ticket: int, waiter: Waiter) -> list[Effect]:
        """Start a model, or make room for it, or refuse its ticket."""
        books, asked = self._books, waiter.asked
        model, recipe = asked.model, books.recipes.of(asked)
        if error := books.breaker.refusal(model, recipe.asked, books.now_s):
            return books.refuse([ticket], error)
        if self._pauses(waiter):
            return []
        self._tried.add(model.id)
        if books.draining:
            self._starve(waiter)
            waiter.wait_for("memory", tuple(name for name, one in books.workers.items() if one.state == "stopping"))
            return []
        in_turn = not asked.person and books.turns.until_s(model.id, books.now_s) is not None
        why: Why = "turn" if in_turn else "memory"
        try:
            plan = books.plan(asked, recipe)
        except DoesNotFit as shortage:
            return self._wait_or_refuse(ticket, waiter, why, shortage)
        except UmlError as error:
            return books.refuse([ticket], error)
        if not plan.evict or plan.converts:
            waiter.wait_for("load")
            return [books.start(plan, recipe)]
        self._starve(waiter, plan.evict, in_turn=in_turn)
        self._short(waiter, why, plan.evict)
        if in_turn:
            return []
        books.turns.evicted(plan.evict, model.id)
        return [effect for victim in plan.evict for effect in books.stop(victim, "evicted")]

    def _wait_or_refuse(self, ticket: int, waiter: Waiter, why: Why, shortage: DoesNotFit) -> list[Effect]:
        """It may fit once those that are busy now are done, or loaded and measured; if not even then, it never will."""
        books = self._books
        try:
            needed = books.plan(waiter.asked, books.recipes.of(waiter.asked), pretend_idle=True).evict
        except UmlError:
            if not books.may_yet_fit(waiter.asked):
                return books.refuse([ticket], shortage)
            needed = ()
        self._short(waiter, why, needed)
        if self._starved is None:
            self._starve(waiter, needed, in_turn=why == "turn")
        return []

    def _load_beside(self, ticket: int, waiter: Waiter, first: Waiter) -> list[Effect]:
        """Start a model while an earlier ticket waits for memory, where that takes nothing from it."""
        books = self._books
        model, recipe = waiter.asked.model, books.recipes.of(waiter.asked)
        if error := books.breaker.refusal(model, recipe.asked, books.now_s):
            return books.refuse([ticket], error)
        if self._pauses(waiter):
            return []
        if first.asked.model.id == model.id:
            waiter.wait_for(first.why, first.held_by)
        else:
            waiter.wait_for("memory", (first.asked.model.id,))
        if books.draining or model.id in self._tried:
            return []
        self._tried.add(model.id)
        try:
            plan = books.plan(waiter.asked, recipe, all_busy=True)
        except UmlError:
            return []  # it is told when its turn comes: by then there may be room
        started = books.start(plan, recipe)
        if not books.fits_beside(first.asked, model.id):
            del books.workers[model.id]
            return []
        waiter.wait_for("load")
        return [started]

    def _short(self, waiter: Waiter, why: Why, needed: tuple[str, ...]) -> None:
        """Note that this ticket waits for the memory of these models, or first for the turn of the one before it."""
        waiter.wait_for(why, (self._books.turns.before(waiter.asked.model.id),) if why == "turn" else needed)

    def _starve(self, waiter: Waiter, needed: tuple[str, ...] = (), *, in_turn: bool = False) -> None:
        """This ticket is the first that waits for memory: of these models."""
        self._starved, self._needed, self._in_turn = waiter, set(needed), in_turn

    def _pauses(self, waiter: Waiter) -> bool:
        """Whether this model is not started again yet, after a death."""
        if self._books.paused_until_s(waiter.asked) == math.inf:
            return False
        waiter.wait_for("restart")
        return True
