"""Engines and their installs as the faces see them: what there is, what can be made, and whether it works."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.config import ensure_private
from uml.core.errors import UmlError
from uml.core.install import Install, Recipe, Step
from uml.core.jsonable import jsonable
from uml.core.model import Format, Model
from uml.core.options import LoadOptions
from uml.formats import inspect
from uml.hardware import snapshot
from uml.house import Library
from uml.runtime.installs import tiny
from uml.runtime.installs.installer import Installer
from uml.runtime.installs.trial import Trial, compared
from uml.runtime.limits import Limits
from uml.runtime.sandbox.confinement import Confinement

Tell = Callable[[Step], None]
Cancelled = Callable[[], bool]

_TRIED_WITH: Final = Format.SAFETENSORS
"""The format of the tiny model."""
_OPTIONS: Final = {"ctx": tiny.CONTEXT // 2, "parallel": 1, "device": "auto"}


@dataclass(frozen=True, slots=True)
class EngineRoom:
    """Over an open library. May be used from any thread; what takes long blocks it."""

    library: Library

    def overview(self) -> list[dict[str, Any]]:
        """Every engine, in the order of preference: whether it can be started, its installs, and its recipe."""
        installs, devices = self.library.installs, _kinds()
        names = dict.fromkeys((*self.library.specs, *installs.engines()))
        return [self._shown(name, devices) for name in names if name != "fake" or installs.all(name)]

    def _shown(self, name: str, devices: frozenset[str]) -> dict[str, Any]:
        installs = self.library.installs
        spec, found = self.library.specs.get(name, (None, None))
        recipe, used = installs.recipes.get(name), installs.find(name)
        return {
            "name": name,
            "title": spec.title if spec else recipe.title if recipe else name,
            "available": found.available if found else False,
            "version": found.version if found else "",
            "way": found.way if found else "",
            "reason": found.reason if found else "no engine of this name runs models",
            "formats": sorted(spec.formats) if spec and spec.formats != frozenset(Format) else [],
            "in_use": used.label if used else None,
            "installs": [shown(one, used) for one in installs.all(name)],
            "recipe": _recipe(recipe, devices) if recipe else None,
        }

    def install(
        self,
        name: str,
        tool: Installer = "pip",
        *,
        again: bool = False,
        tell: Tell = lambda step: None,
        cancelled: Cancelled = lambda: False,
    ) -> dict[str, Any]:
        """Make an install of `NAME` or `NAME==VERSION`, try it, and put it in use. It may take minutes.

        One whose answer is wrong stays, and is not put in use. Raises BadRequest, InstallRefused,
        InstallFailed, Cancelled.
        """
        installs, settings = self.library.installs, self.library.settings
        order = installs.order(name, _kinds(), tool=tool, again=again, offline=settings.offline)
        done = self._tried(installs.install(order, tell, cancelled))
        if done.smoke != "failed":
            installs.use(done.engine, done.label)
        self.library.roster.forget()
        return shown(done, installs.find(done.engine))

    def use(self, engine: str, label: str) -> dict[str, Any]:
        """Run this install from the next load on. Raises InstallNotFound, BadRequest, InstallRefused."""
        found = self.library.installs.use(engine, label)
        self.library.roster.forget()
        return shown(found, found)

    def remove(self, engine: str, label: str) -> dict[str, Any]:
        """Remove an install; `in_use` is what is in use then, None where there is none. Raises as `Installs.remove`."""
        gone = self.library.installs.remove(engine, label)
        self.library.roster.forget()
        left = self.library.installs.find(engine)
        return {"removed": gone.name, "freed_bytes": gone.size_bytes, "in_use": left.label if left else None}

    def test(self, engine: str, label: str = "") -> dict[str, Any]:
        """Load a tiny model with an install, and compare what it says. Raises InstallNotFound, BadRequest."""
        found = self.library.installs.get(engine, label)
        return shown(self._tried(found), self.library.installs.find(engine))

    def _tried(self, install: Install) -> Install:
        trial = self._trial(install)
        return self.library.installs.tested(install, trial.result, trial.says)

    def _trial(self, install: Install) -> Trial:
        spec, engine = self.library.specs.get(install.engine, (None, None))[0], self.library.engines.get(install.engine)
        if spec is None or engine is None or _TRIED_WITH not in spec.formats or install.engine == "fake":
            known = install.smoke_says.partition(";")[0]
            return Trial("not run", f"{known or 'not imported'}; there is no tiny model in a format that it runs")
        settings = self.library.settings
        private = ensure_private(settings.runtime)
        with tempfile.TemporaryDirectory(prefix="uml-trial-") as folder:
            model = Model("tiny", inspect(tiny.write(Path(folder) / "tiny")))
            pinned = LoadOptions.parse({"engine": install.engine, "engine_version": install.label, **_OPTIONS})
            try:
                plan = self.library.decide(model, pinned, snapshot())
            except UmlError as error:
                return Trial("failed", error.message)
            # As confined as it will be when it serves: what the fence keeps from it must be missed here.
            fence = Confinement.here(settings.sandbox, Limits(), settings.data / "cache", settings.sandbox_reads)
            return asyncio.run(compared(engine, plan, tiny.PROMPT, tiny.ANSWER, private, fence))


def shown(install: Install, used: Install | None) -> dict[str, Any]:
    """An install as JSON. used: the one in use."""
    document: dict[str, Any] = jsonable(install)
    return {**document, "name": install.name, "in_use": used is not None and used.name == install.name}


def _recipe(recipe: Recipe, devices: frozenset[str]) -> dict[str, Any]:
    accelerator = next((kind for kind in ("cuda", "rocm", "metal") if kind in devices), "cpu")
    return {
        "version": recipe.version,
        "disk_bytes": recipe.disk_bytes.get(accelerator, recipe.disk_bytes["cpu"]),
        "download_bytes": recipe.download_bytes.get(accelerator, recipe.download_bytes["cpu"]),
        "needs": sorted(recipe.needs),
        "possible": not recipe.needs or bool(recipe.needs & devices),
        "note": recipe.note,
    }


def _kinds() -> frozenset[str]:
    return frozenset(device.kind for device in snapshot().devices)


def split(name: str) -> tuple[str, str]:
    """`NAME==LABEL` as both; the second is empty where it is not given."""
    engine, _, label = name.strip().partition("==")
    return engine.strip(), label.strip()


__all__ = ["EngineRoom", "shown", "split"]
