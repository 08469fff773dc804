"""Memory is promised by what workers really need, once that is known: no start ever goes beyond the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.stand_in import machine as free_machine
from tests.runtime.stand_in import model as named
from uml.core.errors import DoesNotFit
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.planning.budget import Budget, within_budget
from uml.planning.evict import Running, leaving
from uml.runtime.scheduling.events import Asked, Effect, Event, Exited, Measured, Ready, Released, Start, Stop, Weighed
from uml.runtime.scheduling.scheduler import Scheduler

BUDGET = 100
SAID = {"a": 30, "b": 40, "c": 60}
MODELS = {name: named(name) for name in SAID}
FREE = Measured(free_machine(1 << 30))


def plan(
    model: Model,
    options: LoadOptions,
    machine: Machine,
    running: Sequence[Running],
    wants: Sequence[str] = (),
) -> LoadPlan:
    """As the real one: of the budget, what the others need is taken."""
    needed = SAID[model.id]

    def enough(gone: Sequence[Running]) -> bool:
        taken = sum(one.on("cpu") for one in running if one not in gone)
        margin = within_budget(machine, Budget(0), {}).memory.free_bytes
        return within_budget(machine, Budget(BUDGET), {"cpu": taken}).memory.free_bytes - margin >= needed

    if (gone := leaving(running, enough)) is None:
        raise DoesNotFit(model.id, needed, 0)
    footprint, placement = Footprint(needed, 0, 0), Placement({"cpu": needed})
    return LoadPlan(model, "fake", replace(options, ctx=512, parallel=2), footprint, placement, evict=gone)


class Story:
    """A scheduler whose workers do at once what they are told, and need what is drawn for them."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(plan, FREE.machine)
        self.needs: dict[str, int] = {}
        self.started: list[str] = []
        self.tickets = 0

    def tell(self, event: Event) -> None:
        """One event, and what follows from it."""
        self._see(self.scheduler.on(event))

    def ask(self, name: str) -> None:
        """A request, done as soon as it was granted."""
        self.tickets += 1
        self.tell(Asked(self.tickets, MODELS[name]))
        self.tell(Released(self.tickets))

    def _see(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Start):
                name = effect.plan.model.id
                others = [other for other in self.scheduler.workers if other != name]
                promised = sum(self.needs.get(other, SAID[other]) for other in others) + SAID[name]
                assert promised <= BUDGET, (name, others)
                self.started.append(name)
                self.tell(Ready(name))
            elif isinstance(effect, Stop):
                self.needs.pop(effect.model, None)
                self.tell(Exited(effect.model))
                self.tell(FREE)

    def weigh(self, name: str, needed: int) -> None:
        """What a worker really needs is seen."""
        if name in self.scheduler.workers:
            self.needs[name] = needed
        self.tell(Weighed(name, {"cpu": needed}))


def test_a_model_that_needs_less_than_was_said_leaves_room_for_another() -> None:
    story = Story()
    story.ask("c")
    story.weigh("c", 20)
    story.ask("b")
    story.ask("a")
    assert set(story.scheduler.workers) == {"a", "b", "c"}
    assert story.started == ["c", "b", "a"]


def test_a_model_that_needs_more_than_was_said_leaves_none() -> None:
    story = Story()
    story.ask("b")
    story.weigh("b", 75)
    story.ask("a")
    assert set(story.scheduler.workers) == {"a"}, "30 would have fitted beside 40, and does not beside 75"


def test_the_weight_of_one_that_has_gone_counts_for_nobody() -> None:
    story = Story()
    story.weigh("a", 100)
    story.ask("a")
    story.ask("b")
    assert set(story.scheduler.workers) == {"a", "b"}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(sorted(SAID)), st.just(0)),
        st.tuples(st.just("weigh"), st.sampled_from(sorted(SAID)), st.integers(0, 120)),
    ),
    max_size=30,
)


@given(STEPS)
def test_no_start_goes_beyond_the_budget_whatever_workers_turn_out_to_need(
    steps: list[tuple[str, str, int]],
) -> None:
    story = Story()
    for what, name, needed in steps:
        if what == "ask":
            story.ask(name)
        else:
            story.weigh(name, needed)
