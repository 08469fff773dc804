"""The engines that there are, and which of them runs a model: asked once in a while, and answered at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from uml.core.engine import Engine
from uml.core.errors import BadOption
from uml.core.machine import Machine
from uml.core.model import ModelInfo
from uml.hardware import snapshot
from uml.planning import Ranked, choice, rank
from uml.planning.advice import how_to_use, what_it_needs
from uml.planning.rank import Honours, Specs, by_dialect, obstacle
from uml.planning.runner import named

ASKED_EVERY_S: Final = 2.0
"""How long an engine's answer to whether it is installed is believed: it takes a millisecond of reading files."""


class Roster:
    """The engines of this house, and what they last said of themselves. May be asked from any thread."""

    def __init__(self, engines: Mapping[str, Engine], honours: Honours = by_dialect) -> None:
        self.engines = engines
        self._honours = honours
        self._answers = _Answers({}, 0.0, {})

    @property
    def specs(self) -> Specs:
        """Every engine with whether it can be started here, as of at most two seconds ago."""
        return self._now().specs

    @property
    def builds(self) -> Mapping[str, str]:
        """Which build of each engine this is: another one may take other memory for the same model."""
        found = {name: availability for name, (_, availability) in self.specs.items()}
        return {name: f"{state.way} {state.version} {state.reason}" for name, state in found.items()}

    def ranked(self, info: ModelInfo, needs: tuple[str, ...] = ()) -> tuple[Ranked, ...]:
        """The engines that would run a model on this machine, installed ones first; empty where there is none.

        needs: as `rank` takes them.
        """
        answers = self._now()
        # All that `rank` and `how_to_use` look at.
        method = info.quantization.method if info.quantization else "none"
        kind = (info.format, info.role, method, info.architecture, info.version, needs)
        if kind not in answers.ranked:
            answers.ranked[kind] = (
                () if how_to_use(info) else rank(info, self._machine, answers.specs, needs, self._honours)
            )
        return answers.ranked[kind]

    @cached_property
    def _machine(self) -> Machine:
        """For its kinds of devices, which do not come and go."""
        return snapshot()

    def forget(self) -> None:
        """Ask the engines anew: one has been installed, or another of its installs is to be used."""
        self._answers = _Answers({}, 0.0, {})

    def _now(self) -> _Answers:
        answers, now_s = self._answers, time.monotonic()
        if now_s >= answers.until_s:
            specs = {name: (engine.spec, engine.available()) for name, engine in self.engines.items()}
            self._answers = answers = _Answers(specs, now_s + ASKED_EVERY_S, {})
        return answers


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the engines said, until when it is believed, and who runs what by that."""

    specs: Specs
    until_s: float
    ranked: dict[tuple[object, ...], tuple[Ranked, ...]]


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine of a model. engine: None where nothing here runs it; then `needs` says what would, else `reason` why.

    ranked: all that could, best first; empty where one was asked for.
    """

    engine: str | None
    reason: str
    needs: str = ""
    ranked: tuple[Ranked, ...] = ()


def choose(
    roster: Roster, info: ModelInfo, wanted: str = "auto", source: str = "", needs: tuple[str, ...] = ()
) -> Choice:
    """Who runs a model without any load options. wanted: the engine that the settings ask for; source: where.

    needs: what it should be able to do, as `rank` takes them.
    """
    if wanted != "auto":
        try:
            engine, availability = named(wanted, info, roster.specs)
        except BadOption as error:  # of a profile, whose engine has gone
            return Choice(None, "", error.message)
        spec = roster.specs[engine][0]
        if why_not := obstacle(info, spec, availability):
            return Choice(None, "", why_not)
        if not availability.available:
            return Choice(None, "", f"{spec.title} is not installed: {availability.command(spec)}")
        return Choice(engine, f"{spec.title} was asked for ({source})")
    ranked = roster.ranked(info, needs)
    if not ranked:
        return Choice(None, "", what_it_needs(info))
    if not ranked[0].available:
        return Choice(None, "", choice(ranked), ranked)
    return Choice(ranked[0].engine, choice(ranked), ranked=ranked)
