"""The only place that puts rooms together: Settings -> House(registry, engines, supervisor)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uml.config import Settings
from uml.core.engine import Availability, Engine, EngineSpec
from uml.core.errors import UmlError
from uml.core.jsonable import jsonable
from uml.core.machine import Machine
from uml.core.model import Model, ModelInfo
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan, WorkerStatus
from uml.engines import builtin
from uml.formats import inspect
from uml.hardware import snapshot
from uml.planning import plan, rank
from uml.planning.estimate import companion_paths
from uml.planning.evict import Running
from uml.registry import Registry
from uml.runtime.supervisor import Observer, Supervisor


@dataclass(frozen=True, slots=True)
class Library:
    """What can be told about models without starting anything; every face may ask it."""

    settings: Settings
    registry: Registry
    engines: Mapping[str, Engine]

    @classmethod
    def open(cls, settings: Settings) -> Library:
        """Open the registry in the data folder. Raises FolderNotWritable."""
        return cls(settings, Registry(settings.data / "registry.sqlite"), builtin(settings.llama_server))

    @property
    def defaults(self) -> LoadOptions:
        """Load options where a request has none."""
        return LoadOptions.parse({"engine": self.settings.engine, **self.settings.options})

    @property
    def specs(self) -> Mapping[str, tuple[EngineSpec, Availability]]:
        """Every engine with whether it can be started here."""
        return {name: (engine.spec, engine.available()) for name, engine in self.engines.items()}

    def find(self, name: str) -> Model:
        """A model by id, alias or path; a path that was never seen is added."""
        path = path_in(name)
        return self.registry.add(path) if path else self.registry.resolve(name)

    def look(self, name: str) -> Model:
        """A model by id, alias or path, its file looked at once more; a path that was never seen is not added."""
        path = path_in(name)
        if path is None:
            return self.registry.fresh(self.registry.resolve(name))
        return Model(path.stem.lower(), inspect(path))

    def inspect(self, name: str) -> ModelInfo:
        """What a registered model, or any path, is."""
        return self.look(name).info

    def plan(self, model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running] = ()) -> LoadPlan:
        """The plan for a registered model; its file is looked at once more before."""
        return self.decide(self.registry.fresh(model), options, machine, running)

    def decide(self, model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running] = ()) -> LoadPlan:
        """`planning.plan` with this house's engines and budget, and what goes with the model read too."""
        budget = self.settings.memory_budget_bytes
        companions = {path: inspect(Path(path).expanduser()) for path in companion_paths(options)}
        return plan(model, options, machine, self.specs, running, budget, companions=companions)

    def estimate(self, name: str, options: Mapping[str, object]) -> dict[str, Any]:
        """Bytes that a load takes, part by part, and whether they fit; nothing is started."""
        model = self.look(name)
        wanted = LoadOptions.parse({**self.defaults.changed(), **options})
        decided = self.decide(model, wanted, snapshot())
        footprint = decided.footprint
        return {
            "model": model.id,
            "engine": decided.engine,
            "options": jsonable(decided.options),
            "total": {
                "low": footprint.low_bytes,
                "likely": footprint.total_bytes,
                "high": footprint.high_bytes,
            },
            "parts": dict(footprint.parts),
            "method": footprint.method,
            "fits": True,
            "placement": jsonable(decided.placement),
            "reason": decided.reason,
            "warnings": list(decided.warnings),
        }

    def describe(self, model: Model, worker: WorkerStatus | None = None) -> dict[str, Any]:
        """A model as `/v1/models` shows it."""
        info = model.info
        return {
            "id": model.id,
            "object": "model",
            "created": 0,
            "owned_by": model.source,
            "aliases": list(model.aliases),
            "path": str(info.path),
            "format": info.format.value,
            "role": info.role.value,
            "architecture": info.architecture,
            "quantization": info.quantization.label if info.quantization else "",
            "parameters": info.parameters,
            "size": info.size_bytes,
            "context_length": worker.context_length if worker and worker.context_length else info.context_length,
            "engine": worker.engine if worker else self._engine_for(info),
            "state": worker.state if worker else ("unloaded" if model.present else "missing"),
        }

    def _engine_for(self, info: ModelInfo) -> str | None:
        ranked = rank(info, None, self.specs)
        return ranked[0].engine if ranked else None


def path_in(name: str) -> Path | None:
    """The path that a user means, or None for an id or an alias (`Qwen/Qwen2.5-0.5B` is one)."""
    if name.startswith(("/", "./", "../", "~")) or name.endswith(".gguf"):
        return Path(name).expanduser().absolute()
    try:
        return Path(name).absolute() if "/" in name and Path(name).exists() else None
    except OSError:  # not readable, or too long for a path
        return None


@dataclass(frozen=True, slots=True)
class House:
    """A library with its workers; lives as long as the server."""

    library: Library
    supervisor: Supervisor

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, observer: Observer | None = None) -> AsyncIterator[House]:
        """Open everything in order, and close it in the opposite one."""
        library = await asyncio.to_thread(Library.open, settings)
        async with Supervisor(
            engines=library.engines,
            planner=library.plan,
            defaults=library.defaults,
            runtime_folder=settings.runtime,
            log_folder=settings.data / "logs",
            snapshot=snapshot,
            load_timeout_s=settings.load_timeout_s,
            queue_limit=settings.queue_limit,
            observer=observer,
        ) as supervisor:
            yield cls(library, supervisor)

    def describe(self, model: Model) -> dict[str, Any]:
        """A model as `/v1/models` shows it, with the state of its worker."""
        return self.library.describe(model, self.worker(model.id))

    def worker(self, model_id: str) -> WorkerStatus | None:
        """The status of a model's worker, where it has one."""
        return next((status for status in self.supervisor.status() if status.model == model_id), None)


__all__ = ["House", "Library", "UmlError"]
