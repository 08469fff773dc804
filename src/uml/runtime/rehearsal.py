"""What an engine would refuse at a worker's start, asked while its load is still a plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from uml.core.engine import Endpoint, Engine
from uml.core.plan import LoadPlan

NOWHERE: Final = Endpoint(key="rehearsal", socket=Path("/nowhere/w.sock"))
BELIEVED_S: Final = 2.0
"""How long an engine that has taken a plan is not asked about the same again: who waits is planned at every event."""


def rehearse(engine: Engine, plan: LoadPlan) -> None:
    """Have the command made that would start a worker, and throw it away. Raises what `Engine.launch` does.

    A refusal now costs nothing; at the start, whoever has left for this load would have left for nothing.
    """
    engine.launch(plan, NOWHERE)


class Rehearsals:
    """The same for plans that are made over and over. clock: in seconds."""

    def __init__(self, engines: Mapping[str, Engine], clock: Callable[[], float] = time.monotonic) -> None:
        self._engines = engines
        self._clock = clock
        self._taken: dict[str, tuple[tuple[Any, ...], float]] = {}

    def rehearse(self, plan: LoadPlan) -> None:
        """Ask the plan's engine, unless it has just taken the same. Raises what `Engine.launch` does."""
        model, same = plan.model.id, (plan.engine, plan.options, plan.placement, plan.model.info.path)
        taken, until_s = self._taken.get(model, ((), 0.0))
        if taken == same and self._clock() < until_s:
            return
        rehearse(self._engines[plan.engine], plan)
        self._taken[model] = same, self._clock() + BELIEVED_S
