"""Engines and their installs as the faces see them: what there is, what can be made, and whether it works."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from uml.config import ensure_private
from uml.core.errors import InstallFailed, InstallRefused, UmlError
from uml.core.install import SHARED, Install, Recipe, Step
from uml.core.jsonable import jsonable
from uml.core.model import Format, Model
from uml.core.options import LoadOptions
from uml.engines.llamacpp import native
from uml.engines.llamacpp.spec import NAME as LLAMACPP
from uml.engines.transformers.spec import GPTQ
from uml.formats import inspect
from uml.hardware import snapshot
from uml.house import Library
from uml.registry import packaged_model
from uml.runtime.installs import tiny, tiny_gguf, tiny_gptq, tiny_onnx
from uml.runtime.installs.installer import Installer
from uml.runtime.installs.make import Order
from uml.runtime.installs.trial import Speed, Trial, compared, timed
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.workers.limits import Limits

Tell = Callable[[Step], None]
Cancelled = Callable[[], bool]

_TINY: Final = {
    Format.SAFETENSORS: (tiny.write, tiny.ANSWER),
    Format.GGUF: (tiny_gguf.write, tiny.ANSWER),
    Format.ONNX_GENAI: (tiny_onnx.write, tiny.ANSWER),
}
"""Formats of the tiny model, what writes it, and what it answers."""
_TINY_OF_INSTALL: Final = {GPTQ: (tiny_gptq.write, tiny_gptq.ANSWER)}
"""The same of installs that are there for weights of a kind."""
_READ: Final = "Once upon a time there was a small robot who wanted to learn everything about the sea. " * 24
"""A prompt of some hundred tokens, so that it is read in batches."""
_MADE: Final = 64
_ALIKE: Final = 8
"""Characters of an answer that must be the same: further on, builds may differ by their roundings."""
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

    def build(self, tell: Tell = lambda step: None, cancelled: Cancelled = lambda: False) -> dict[str, Any]:
        """Build llama.cpp out of its source for this machine, prove it, and compare it with the wheel; minutes.

        It is not put in use: whoever sees the figures decides. `install`, and `speeds`: tokens a second of prompts
        (`prompt`) and answers (`answer`), by label. Raises InstallRefused: what it needs is not here; InstallFailed.
        """
        installs, settings = self.library.installs, self.library.settings
        if lacking := native.missing(shutil.which):
            raise InstallRefused(f"to build llama.cpp this machine lacks {'; '.join(lacking)}", missing=list(lacking))
        machine = snapshot()
        if not installs.find(LLAMACPP):
            raise InstallRefused("the wheel to compare it with is not installed: pip install xllamacpp")
        if not installs.chosen(LLAMACPP):
            installs.use(LLAMACPP, SHARED)
        wheel, why = installs.get(LLAMACPP, SHARED), ""
        with tempfile.TemporaryDirectory(prefix="uml-build-") as folder:
            header = Path(folder) / "before_all.h"
            header.write_text(native.HEADER, "ascii")
            for attempt in native.attempts(machine.instructions):
                order = Order(
                    recipe=native.RECIPE,
                    version=wheel.version,
                    python=Path(sys.executable),
                    offline=settings.offline,
                    our_pip=installs.our_pip,
                    mark=attempt.mark,
                    variables=native.variables(attempt, header, machine.threads),
                )
                made = installs.install(order, tell, cancelled)
                tell(Step(LLAMACPP, "testing", f"comparing the build {attempt.says} with the wheel", percent=99.0))
                try:
                    speeds = self._compared(made, wheel)
                except (UmlError, LookupError) as error:
                    why = f"{made.name} does not work here: {error}"
                    installs.remove(LLAMACPP, made.label)
                    continue
                figures = ", ".join(f"{label} {speed}" for label, speed in speeds.items())
                does = f"it answers as the wheel does; tokens a second of prompt and answer: {figures}"
                done = installs.tested(made, "passed", does)
                return {
                    "install": shown(done, installs.find(LLAMACPP)),
                    "speeds": {label: asdict(speed) for label, speed in speeds.items()},
                }
        raise InstallFailed("a build of llama.cpp for this machine", f"{why}; the wheel stays in use")

    def _compared(self, made: Install, wheel: Install) -> dict[str, Speed]:
        """How fast both are with the demo model. Raises LookupError where they do not say the same."""
        engine, settings = self.library.engines[LLAMACPP], self.library.settings
        private, model = ensure_private(settings.runtime), Model("demo", inspect(packaged_model()))
        speeds, texts = {}, set()
        for one in (wheel, made):
            options = {"engine": LLAMACPP, "engine_version": one.label, "ctx": 2048, "parallel": 1, "device": "cpu"}
            plan = self.library.decide(model, LoadOptions.parse(options), snapshot())
            text, speeds[one.label] = asyncio.run(timed(engine, plan, _READ, _MADE, private))
            texts.add(text[:_ALIKE])
        if len(texts) > 1:
            raise LookupError(f"its answer is another one than the wheel's: {' and '.join(map(repr, texts))}")
        return speeds

    def use(self, engine: str, label: str) -> dict[str, Any]:
        """Run this install from the next load on. Raises InstallNotFound, BadRequest, InstallRefused."""
        found = self.library.installs.use(engine, label)
        self.library.roster.forget()
        return shown(found, found)

    def remove(self, engine: str, label: str = "") -> dict[str, Any]:
        """Remove an install. Raises as `Installs.remove`.

        `in_use` is what is in use then, None where there is none; `pinned_by` models whose profiles name it.
        """
        gone = self.library.installs.remove(engine, label)
        self.library.roster.forget()
        left = self.library.installs.find(engine)
        pinned = [model for model, saved in self.library.registry.profiles.all().items() if _pins(saved) == gone.name]
        about = {"removed": gone.name, "freed_bytes": gone.size_bytes, "pinned_by": pinned}
        return {**about, "in_use": left.label if left else None}

    def test(self, engine: str, label: str = "") -> dict[str, Any]:
        """Load a tiny model with an install, and compare what it says. Raises InstallNotFound, BadRequest."""
        found = self.library.installs.get(engine, label)
        return shown(self._tried(found), self.library.installs.find(engine))

    def _tried(self, install: Install) -> Install:
        trial = self._trial(install)
        return self.library.installs.tested(install, trial.result, trial.says)

    def _trial(self, install: Install) -> Trial:
        spec = self.library.specs.get(install.engine, (None, None))[0]
        found = next((_TINY[format] for format in _TINY if spec and format in spec.formats), None)
        found = _TINY_OF_INSTALL.get(install.engine, found)
        if found is None or install.engine == "fake":
            known = install.smoke_says.partition(";")[0]
            return Trial("not run", f"{known or 'not imported'}; there is no tiny model in a format that it runs")
        settings, (write, right) = self.library.settings, found
        private = ensure_private(settings.runtime)
        # It may have come this very moment.
        self.library.roster.forget()
        with tempfile.TemporaryDirectory(prefix="uml-trial-") as folder:
            model = Model("tiny", inspect(write(Path(folder) / "tiny")))
            pinned = LoadOptions.parse({"engine": install.engine, "engine_version": install.label, **_OPTIONS})
            try:
                plan = self.library.decide(model, pinned, snapshot())
            except UmlError as error:
                return Trial("failed", error.message)
            # As confined as it will be when it serves: what the fence keeps from it must be missed here.
            fence = Confinement.here(settings.sandbox, Limits(), settings.data / "cache", settings.sandbox_reads)
            engine = self.library.engines[plan.engine]
            return asyncio.run(compared(engine, plan, tiny.PROMPT, right, private, fence))


def _pins(saved: Mapping[str, Any]) -> str:
    """The install that a profile names; empty for one that names none, or whose options are of another version."""
    try:
        options = LoadOptions.parse(saved)
    except UmlError:
        return ""
    return f"{options.engine}=={options.engine_version}" if options.engine_version else ""


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
