"""How the workers of one server are kept in and limited: a worker's launch becomes one that starts confined."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, Self

from uml.core.engine import Launch
from uml.core.errors import SandboxUnavailable
from uml.core.plan import LoadPlan
from uml.runtime.sandbox import policy
from uml.runtime.sandbox.launcher import VARIABLE
from uml.runtime.sandbox.means import LAUNCHER, Means, means
from uml.runtime.workers.limits import Group, Limits, data_bytes, parent_group, processors, some_of

log = logging.getLogger(__name__)

Mode = Literal["off", "auto", "required"]
CACHES: Final = {"XDG_CACHE_HOME": "", "CUDA_CACHE_PATH": "cuda", "TRITON_CACHE_DIR": "triton"}
"""Variables by which libraries find where to keep what they compiled, and the folder of each in the engine's."""


@dataclass(frozen=True, slots=True)
class Held:
    """A launch as it is really done. group: the control group it joins, to be removed after it."""

    launch: Launch
    group: Group | None = None


@dataclass(frozen=True, slots=True)
class Confinement:
    """Sandbox and limits of every worker.

    cache: a folder in which every engine gets one that its workers may write to. reads: further folders that
    workers may read. parent: the control group in which theirs are made, where that is possible.
    """

    mode: Mode = "off"
    means: Means = field(default_factory=Means)
    limits: Limits = field(default_factory=Limits)
    cache: Path | None = None
    reads: Sequence[Path] = ()
    parent: Path | None = None
    _numbers: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    @classmethod
    def here(cls, mode: Mode, limits: Limits, cache: Path, reads: Sequence[Path] = ()) -> Self:
        """With what this system offers, which is tried. Raises SandboxUnavailable where more is required."""
        found = means() if mode != "off" else Means()
        if mode == "required" and found.missing:
            raise SandboxUnavailable(found.missing)
        return cls(mode, found, limits, cache, reads, parent_group() if limits.wants_group else None)

    def hold(self, plan: LoadPlan, launch: Launch, name: str, own: Path) -> Held:
        """The launch, confined. name: unique for the worker; own: its folder, there already."""
        if sys.platform == "win32":
            return Held(launch)
        allowed = processors()
        group = self._group(name, len(allowed))
        order = policy.Order(
            model=plan.model.id,
            required=self.mode == "required",
            group=str(group.path) if group else "",
            data_bytes=data_bytes(self.limits.memory_bytes, launch.threads + 2 * plan.options.threads),
            cpus=some_of(allowed, self.limits.cpu_share, next(self._numbers)),
            nice=self.limits.nice,
            loopback=launch.loopback,
        )
        environment = {**launch.environment}
        before: list[str] = []
        if self.mode != "off":
            places = self._places(plan.engine, own)
            environment |= places
            writes = (*dict.fromkeys([str(own), *places.values(), *(str(folder) for folder in launch.writes)]),)
            order = replace(
                policy.fenced(order, self.means),
                reads=policy.readable(plan, launch, os.environ, self.reads),
                writes=writes,
                devices=policy.devices(),
            )
            if not self.means.landlock and self.means.bubblewrap:
                before = policy.bubblewrap(self.means.bubblewrap, order)
        argv = (*before, *_through_launcher(launch.argv))
        return Held(replace(launch, argv=argv, environment={**environment, VARIABLE: order.as_json()}), group)

    def _group(self, name: str, count: int) -> Group | None:
        if self.parent is None:
            return None
        try:
            return Group.make(self.parent, name, self.limits, count)
        except OSError as error:
            log.warning("no control group for worker %s, other limits hold: %s", name, error)
            return None

    def _places(self, engine: str, own: Path) -> dict[str, str]:
        """Variables that name folders which the worker may write to; made where they are missing."""
        places = {"TMPDIR": str(own)}
        if self.cache is not None:
            for variable, folder in CACHES.items():
                place = self.cache / engine / folder
                place.mkdir(parents=True, exist_ok=True)
                places[variable] = str(place)
        return places


def _through_launcher(argv: Sequence[str]) -> tuple[str, ...]:
    """The same command behind the launcher. A module runs in the launcher's interpreter, which must be its own."""
    program, *rest = argv
    if rest[:1] == ["-m"]:
        return (program, "-P", str(LAUNCHER), *rest)
    return (sys.executable, "-P", str(LAUNCHER), *argv)
