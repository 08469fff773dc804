"""What loads took: written down where a worker was weighed, and told when the same is planned again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from uml.core.model import Model, ModelInfo
from uml.core.plan import LoadPlan, Taken
from uml.formats import inspect
from uml.hardware import gpu_use
from uml.house.paths import at_home
from uml.planning.estimate import companion_paths
from uml.planning.refine import Figures, Foretelling, Known, first_of, together
from uml.registry import Registry
from uml.registry.measurements import Load, Measurement, identity
from uml.roster import Roster


@dataclass(frozen=True, slots=True)
class LoadRecords:
    """Kept in the registry, by what was loaded and the build of the engine that did. It is `runtime.taken.Records`."""

    registry: Registry
    roster: Roster

    def known(self, model: Model, companions: Mapping[str, ModelInfo]) -> Known:
        """What has been told of this model's loads: what they took beats what a dry run says they would."""
        taken = self.registry.measurements.known(identity(model.info, companions), self.roster.builds)
        foretold = first_of(
            *(engine.foretold(model) for engine in self.roster.engines.values() if isinstance(engine, Foretelling))
        )
        return together(taken, foretold)

    def gpu_use(self, pid: int) -> Mapping[str, int]:
        """Bytes that a process holds on each GPU, as far as a driver tells."""
        return gpu_use(pid, os.environ)

    def grown(self, plan: LoadPlan) -> int:
        """Bytes that use has added to earlier loads of the same."""
        return self.registry.measurements.grown(self._load(plan))

    def keep(self, plan: LoadPlan, taken: Taken, figures: Figures) -> None:
        """Remember what a load took, for the next estimate of the same."""
        found = Measurement(time.time(), plan.footprint.total_bytes, taken, figures)
        self.registry.measurements.keep(self._load(plan), found)

    def _load(self, plan: LoadPlan) -> Load:
        companions = {path: inspect(at_home(path)) for path in companion_paths(plan.options)}
        build = self.roster.builds[plan.engine]
        return Load(identity(plan.model.info, companions), plan.engine, build, plan.options)
