"""A plug-in's engine as the rest of the program meets it: whatever it does, it answers as an engine may."""

from __future__ import annotations

import logging
from typing import Final

from uml.core.engine import Availability, Endpoint, Engine, EngineSpec, Launch
from uml.core.errors import LoadFailed, UmlError
from uml.core.guard import Guard, LeftOut
from uml.core.plan import LoadPlan

log: Final = logging.getLogger(__name__)


class GuardedEngine:
    """An engine of a plug-in, called through its guard. It has no further sides: no sessions, no dry runs."""

    def __init__(self, engine: Engine, guard: Guard) -> None:
        self.spec: EngineSpec = engine.spec
        self._engine = engine
        self._guard = guard

    def available(self) -> Availability:
        """What it says; not available where it does not answer."""
        try:
            found: object = self._guard.call("available()", self._engine.available)
        except (LeftOut, UmlError) as error:
            return Availability(False, reason=f"the plug-in {self._guard.name} is left out: {error}")
        if isinstance(found, Availability):
            return found
        return Availability(False, reason=f"the plug-in {self._guard.name} does not say whether it is available")

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """Its command for a worker. Raises what it does where that is an UmlError, else LoadFailed."""
        try:
            found: object = self._guard.call("launch()", self._engine.launch, plan, endpoint)
        except LeftOut as error:
            raise LoadFailed(plan.model.id, f"the plug-in {self._guard.name}: {error}") from error
        if not isinstance(found, Launch):
            raise LoadFailed(plan.model.id, f"the plug-in {self._guard.name} gives no command for a worker")
        return found

    def cause(self, plan: LoadPlan, log_text: str, exit_code: int | None) -> UmlError | None:
        """Its reading of a dead worker's log; None where it has none."""
        try:
            found: object = self._guard.call("cause()", self._engine.cause, plan, log_text, exit_code)
        except (LeftOut, UmlError) as error:
            log.warning("the plug-in %s cannot tell why a worker died: %s", self._guard.name, error)
            return None
        return found if isinstance(found, UmlError) else None
