"""A planner that the queue can rely on: it breaks on nothing, and plans nothing that the engine would refuse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from uml.core.engine import Engine
from uml.core.errors import LoadFailed, UmlError
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.evict import Running
from uml.runtime.rehearsal import Rehearsals
from uml.runtime.scheduling.events import Planner, Preparer

log = logging.getLogger(__name__)


class CarefulPlanner:
    """A `Planner` around another one. preparer: what takes too long for it."""

    def __init__(self, planner: Planner, engines: Mapping[str, Engine], preparer: Preparer | None = None) -> None:
        self._planner = planner
        self._preparer = preparer
        self._rehearsals = Rehearsals(engines)

    def __call__(
        self,
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running],
        wants: Sequence[str] = (),
        /,
    ) -> LoadPlan:
        """The plan, or an UmlError; LoadFailed where planner or engine broke."""
        try:
            plan = self._planner(model, options, machine, running, wants)
            self._rehearsals.rehearse(plan)
        except UmlError:
            raise
        except Exception as error:
            # A planner reads files of strangers, and engines are plug-ins. One that breaks must not stop the queue.
            log.exception("planning %s failed", model.id)
            raise LoadFailed(model.id, f"it could not be planned: {type(error).__name__}: {error}") from error
        return plan

    async def prepare(self, model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running]) -> None:
        """Let what takes long be found out in a thread, before the same is planned."""
        if self._preparer is None:
            return
        try:
            await asyncio.to_thread(self._preparer, model, options, machine, running)
        except Exception:
            # It only makes the plan's figures better; whatever is wrong with the model, the plan says so itself.
            log.debug("preparing %s failed", model.id, exc_info=True)
