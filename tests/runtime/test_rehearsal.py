"""What an engine refuses is refused before anybody leaves for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.stand_in import DEMO, StandIn, bench, flags, machine, model, plan
from uml.core.engine import Endpoint, Launch
from uml.core.errors import BadOption, LoadFailed, UmlError
from uml.core.plan import LoadPlan
from uml.runtime.rehearsal import BELIEVED_S, NOWHERE, Rehearsals

REFUSALS: list[tuple[str, str, type[UmlError], str]] = [
    ("nonsense", "fake", BadOption, "nonsense"),
    ("no-launch", "stand-in", BadOption, "no-launch"),
    ("broken-launch", "stand-in", LoadFailed, "could not be planned: ZeroDivisionError: an engine with a bug"),
]


@pytest.mark.parametrize(("word", "engine", "error", "sentence"), REFUSALS)
async def test_a_model_that_works_is_not_stopped_for_options_that_its_engine_refuses(
    tmp_path: Path, word: str, engine: str, error: type[UmlError], sentence: str
) -> None:
    async with bench(tmp_path) as office:
        await office.supervisor.load(DEMO)
        pid = office.pid
        with pytest.raises(error, match=sentence):
            await office.supervisor.load(DEMO, flags(word, engine=engine))
        async with office.supervisor.lease(DEMO) as lease:
            assert await lease.channel.health() == 200
        assert office.pid == pid


@pytest.mark.parametrize(("word", "engine", "error", "sentence"), REFUSALS)
async def test_nobody_leaves_for_a_model_that_its_engine_refuses(
    tmp_path: Path, word: str, engine: str, error: type[UmlError], sentence: str
) -> None:
    async with bench(tmp_path, room_for=1) as office:
        await office.supervisor.load(DEMO)
        pid = office.pid
        for _ in range(2):  # nothing was tried, so that nothing is held back for having failed
            with pytest.raises(error, match=sentence):
                async with office.supervisor.lease(model("other"), flags(word, engine=engine)):
                    raise AssertionError("it loaded")
        assert office.pid == pid
        assert [status.model for status in office.supervisor.status()] == ["demo"]


class Counting(StandIn):
    """Counts how often it is asked for a command."""

    asked = 0

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        self.asked += 1
        return super().launch(plan, endpoint)


def test_an_engine_is_not_asked_at_every_event_about_who_waits() -> None:
    engine, now_s = Counting(), [0.0]
    rehearsals = Rehearsals({"stand-in": engine}, lambda: now_s[0])
    decided = plan(DEMO, flags(engine="stand-in"), machine(1 << 30), [])
    for now_s[0] in (0.0, BELIEVED_S - 0.1):
        rehearsals.rehearse(decided)
    assert engine.asked == 1
    rehearsals.rehearse(replace(decided, options=replace(decided.options, ctx=64)))
    assert engine.asked == 2, "another way to load it"
    now_s[0] = 2 * BELIEVED_S
    rehearsals.rehearse(replace(decided, options=replace(decided.options, ctx=64)))
    assert engine.asked == 3, "a file may have gone"
    for _ in range(2):
        with pytest.raises(BadOption):
            rehearsals.rehearse(plan(DEMO, flags("no-launch", engine="stand-in"), machine(1 << 30), []))
    assert engine.asked == 5, "or have come"


class Fickle(StandIn):
    """Refuses at the start what it took in the plan, as one does whose file has gone in between."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        if endpoint != NOWHERE:
            raise self._error
        return super().launch(plan, endpoint)


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (BadOption("chat_template_file", "gone.jinja", "the path of a file"), "bad_option", r"gone\.jinja"),
        (ZeroDivisionError("an engine with a bug"), "load_failed", "ZeroDivisionError: an engine with a bug"),
    ],
)
async def test_what_is_refused_at_the_start_only_is_told_too(
    tmp_path: Path, raised: Exception, code: str, sentence: str
) -> None:
    async with bench(tmp_path, engines={"stand-in": Fickle(raised)}) as office:
        with pytest.raises(UmlError, match=sentence):
            await office.supervisor.load(DEMO, flags(engine="stand-in"))
        (status,) = office.supervisor.status()
        assert status.error
        assert (status.state, status.error["code"]) == ("failed", code)
        assert (await office.supervisor.load(DEMO, flags())).state == "ready"
