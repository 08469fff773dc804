"""Stories of a model that comes back: with room for what was said before, as far as that can be had."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.planning.things import GIB, SPECS, machine, model
from tests.runtime.stand_in import DEMO, bench
from tests.runtime.test_shelf import opened, saved
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning import plan
from uml.planning.evict import Running
from uml.runtime.scheduling.events import BetterLater
from uml.runtime.sessions import Sessions
from uml.runtime.sessions.remembering import RECENT_S, Remembering
from uml.runtime.sessions.shelf import Kept

EIGHT = model()
"""8 GiB of weights, 128 KiB of cache a token in f16."""
OPEN = LoadOptions(parallel=1)
TIGHT = 9 * GIB
"""Room for it with 4,096 tokens in q8_0."""


def talk(
    tokens: int = 30_000, ctx: int = 32_768, age_s: float = 60.0, kind: str = "f16", slots: int = 1, template: str = ""
) -> Kept:
    """A conversation that was saved."""
    saved_ns = time.time_ns() - int(age_s * 1e9)
    return Kept("any", "one", template, tokens, 1, saved_ns, (), ctx, (kind, kind), slots)


def goes_on(plan: LoadPlan, kept: Kept) -> bool:
    """As an engine would have it for which template, cache types and slots matter."""
    had = plan.options
    return (had.chat_template, (had.cache_type_k, had.cache_type_v), had.parallel) == (
        kept.fingerprint,
        kept.cache_types,
        kept.parallel,
    )


def planned(free: int, *running: Running, kept: Sequence[Kept] = (), options: LoadOptions = OPEN) -> LoadPlan:
    def usual(
        model: Model, options: LoadOptions, where: Machine, running: Sequence[Running], wants: Sequence[str] = (), /
    ) -> LoadPlan:
        return plan(model, options, where, SPECS, running, wants=wants)

    return Remembering(usual, lambda name: kept, goes_on)(EIGHT, options, machine(free), running)


def other(count: int, *, busy: bool = False, pinned: bool = False) -> Running:
    return Running("other", count, 1, busy=busy, pinned=pinned)


def test_without_a_conversation_it_is_planned_as_ever() -> None:
    for free in (14 * GIB, 60 * GIB):
        assert planned(free).options == plan(EIGHT, OPEN, machine(free), SPECS).options


def test_it_comes_back_with_room_for_the_next_turn_and_an_idle_model_leaves_for_it() -> None:
    idle = other(6 * GIB)
    alone = planned(11 * GIB, idle)
    assert alone.options.ctx < 30_000 and alone.evict == ()
    found = planned(11 * GIB, idle, kept=[talk()])
    assert (found.options.ctx, found.options.cache_type_k, found.evict) == (32_768, "f16", ("other",))
    assert "ctx is 32768, for a conversation of 30000 tokens that goes on" in found.warnings


def test_it_takes_no_more_than_the_conversation_needs() -> None:
    found = planned(12 * GIB, kept=[talk(tokens=12_000), talk(tokens=500)])
    assert found.options.ctx == 15_104, "a quarter more, in steps of the engine"


def test_it_waits_for_those_who_are_at_work_rather_than_refuse_the_next_turn() -> None:
    busy = other(6 * GIB, busy=True)
    assert planned(TIGHT, busy).options.ctx < 30_000
    with pytest.raises(BetterLater) as caught:
        planned(TIGHT, busy, kept=[talk()])
    assert caught.value.now.options == planned(TIGHT, busy).options, "for those who do not wait"
    roomier = planned(11 * GIB, busy, kept=[talk()]).options
    assert (roomier.ctx, roomier.cache_type_k) == (32_768, "q8_0"), "its prompt is read again, at once"
    assert planned(TIGHT, replace(busy, busy=False), kept=[talk()]).evict == ("other",)


def test_it_waits_for_nobody_where_the_prompt_need_only_be_read_again() -> None:
    found = planned(TIGHT, other(6 * GIB, busy=True), kept=[talk(tokens=3000, ctx=4096, kind="f32")])
    assert (found.options.ctx, found.options.cache_type_k) == (4096, "q8_0")


def test_it_gets_no_smaller_for_a_conversation_than_without() -> None:
    short = talk(tokens=3000)
    alone = planned(12 * GIB).options
    assert (alone.ctx, alone.cache_type_k) == (8192, "q8_0")
    found = planned(12 * GIB, kept=[short])
    assert (found.options.ctx, found.options.cache_type_k) == (8192, "f16")
    assert "its cache is that of a conversation of 3000 tokens that goes on" in found.warnings
    assert planned(TIGHT, kept=[talk(tokens=3000, kind="f32")]) == planned(TIGHT), "its prompt is read again"


@pytest.mark.parametrize("kinds", [("q8_0", "q8_0"), ("q8_0", "auto")])
def test_a_cache_that_was_asked_for_stays(kinds: tuple[str, str]) -> None:
    """It is none that the conversation could be read back into."""
    options = replace(OPEN, cache_type_k=kinds[0], cache_type_v=kinds[1])
    assert planned(14 * GIB, kept=[talk(tokens=3000)], options=options) == planned(14 * GIB, options=options)
    longer = planned(14 * GIB, kept=[talk(tokens=12_000)], options=options).options
    assert (longer.ctx, longer.cache_type_k) == (15_104, "q8_0")


def test_a_conversation_that_cannot_be_read_back_changes_no_cache() -> None:
    roomy = planned(60 * GIB)
    assert roomy.options.cache_type_k == "f16"
    assert planned(60 * GIB, kept=[talk(tokens=3000, kind="q8_0", template="another")]) == roomy
    again = talk(tokens=2000, kind="q8_0")
    found = planned(60 * GIB, kept=[talk(tokens=3000, kind="q4_0", template="another"), again])
    assert (found.options.cache_type_k, found.options.ctx) == ("q8_0", roomy.options.ctx)
    assert "its cache is that of a conversation of 2000 tokens that goes on" in found.warnings


def test_of_two_as_long_the_one_that_the_cache_suits_or_that_was_used_last_goes_on() -> None:
    old, new = talk(tokens=2000, kind="q8_0", age_s=90), talk(tokens=2000, kind="f32", age_s=30)
    assert planned(60 * GIB, kept=[old, new]).options.cache_type_k == "f32"
    assert planned(60 * GIB, kept=[old, new, talk(tokens=2001)]) == planned(60 * GIB)


def test_it_comes_back_with_as_many_slots_where_that_is_no_loss() -> None:
    free = replace(OPEN, parallel=0)
    few = planned(12 * GIB, options=free)
    assert (few.options.parallel, few.options.ctx) == (1, 8192)
    found = planned(12 * GIB, options=free, kept=[talk(tokens=2000, kind="q8_0", slots=2)])
    assert (found.options.parallel, found.options.ctx, found.options.cache_type_k) == (2, 8192, "q8_0")
    many = planned(60 * GIB, options=free)
    assert many.options.parallel == 4
    assert planned(60 * GIB, options=free, kept=[talk(tokens=2000)]) == many, "three slots are worth more"


def test_nobody_leaves_for_slots_alone() -> None:
    free, idle = replace(OPEN, parallel=0), other(6 * GIB)
    beside = planned(17 * GIB, idle, options=free)
    assert (beside.options.parallel, beside.evict) == (1, ())
    wide = talk(tokens=2000, kind=beside.options.cache_type_k, slots=16)
    assert planned(17 * GIB, idle, options=free, kept=[wide]) == beside


def test_with_a_context_that_was_asked_for_it_has_the_cache_that_it_had() -> None:
    asked = replace(OPEN, ctx=8192)
    assert planned(60 * GIB, options=asked).options.cache_type_k == "f16"
    found = planned(60 * GIB, options=asked, kept=[talk(), talk(tokens=5000, kind="q8_0")])
    assert (found.options.ctx, found.options.cache_type_k) == (8192, "q8_0")


def test_what_can_never_be_again_is_said() -> None:
    found = planned(TIGHT, other(6 * GIB, pinned=True), kept=[talk()])
    assert found.options.ctx < 30_000 and found.evict == ()
    assert "there is no memory for a conversation of 30000 tokens that was saved" in found.warnings


@pytest.mark.parametrize(
    ("kept", "options"),
    [
        (talk(age_s=RECENT_S + 60), OPEN),
        (talk(ctx=0), OPEN),
        (talk(), replace(OPEN, ctx=4096)),
    ],
)
def test_nobody_leaves_for_an_old_one_or_against_what_was_asked(kept: Kept, options: LoadOptions) -> None:
    found = planned(11 * GIB, other(6 * GIB), kept=[kept], options=options)
    assert found.options.ctx < 30_000 and found.evict == ()


async def test_a_server_looks_at_what_the_last_one_saved(tmp_path: Path) -> None:
    shelf = opened(tmp_path)
    saved(shelf, replace(talk(tokens=1000, ctx=2048), model="demo", bytes=10))
    async with bench(tmp_path, sessions=Sessions(tmp_path / "sessions", 1000)) as office:
        loaded = await office.supervisor.load(DEMO)
    assert loaded.context_length == 1536, "the planner of this test gives 512"
