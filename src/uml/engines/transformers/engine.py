"""Transformers from the parent's side: which environment runs it, and what its workers end of."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from uml.core.engine import Availability, Endpoint, Launch
from uml.core.errors import BadOption, EngineNotInstalled, LoadFailed, OutOfMemory, UmlError
from uml.core.install import Install, Installed, nowhere
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.transformers.most import limits
from uml.engines.transformers.spec import GPTQ, NAME, NEEDS, SPEC, WITH_GPTQMODEL

ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    # A configuration may name kernels on the hub, which are programs of strangers.
    "USE_HUB_KERNELS": "0",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
SPIN: Final = {
    # How often a thread looks before it sleeps, between two steps of a computation. libgomp's default, for
    # milliseconds, makes a machine that does anything else besides many times slower. Whoever has set it knows better.
    "GOMP_SPINCOUNT": "30000",
}
GPTQMODEL: Final = {
    # It packs by so many threads and refuses a machine that it thinks has fewer; nothing is packed here.
    "GPTQMODEL_CPU_WORKERS": "2",
}
BITNET: Final = {
    # It has PyTorch compile what it does for every length of a text anew, with a C++ compiler: ten times the work.
    "TORCHDYNAMO_DISABLE": "1",
}
WITHOUT_MEMORY: Final = ("can't allocate memory", "Cannot allocate memory", "out of memory", "MemoryError")


class Transformers:
    """The parent's side. installed: finds the environments that workers run in."""

    def __init__(self, installed: Installed = nowhere) -> None:
        self.spec = SPEC
        self._installed = installed

    def available(self) -> Availability:
        """Whether an environment of it is there; nothing in it is imported."""
        other = self._state(GPTQ)
        return replace(self._state(NAME), install="", others=dict.fromkeys(sorted(WITH_GPTQMODEL), other))

    def _state(self, name: str) -> Availability:
        install = self._installed(name, "")
        if install is None:
            return Availability(False, way="hosted", reason=f"uml engine install {name}", install=name)
        devices = frozenset({"cpu"}) if install.accelerator == "cpu" else frozenset()
        return Availability(True, install.version, "hosted", str(install.folder), devices, install=name)

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker. Raises BadOption, EngineNotInstalled, LoadFailed for what cannot run here."""
        install = self._install(plan)
        folder = plan.options.offload_folder
        if folder and not Path(folder).expanduser().is_dir():
            raise BadOption("offload_folder", folder, "a folder that is there")
        limits(plan.options.max_memory)
        own = SPIN | (GPTQMODEL if install.engine == GPTQ else {}) | (BITNET if _method(plan) == "bitnet" else {})
        environment = ENVIRONMENT | {name: value for name, value in own.items() if name not in os.environ}
        if endpoint.socket:
            # Code of a model that is trusted is copied there before it runs.
            environment["HF_MODULES_CACHE"] = str(endpoint.socket.parent / "modules")
        launch = handover.launch(NAME, plan, endpoint, environment, install)
        writes = (Path(folder).expanduser(),) if folder else ()
        return Launch(
            argv=launch.argv,
            environment=launch.environment,
            stdin=launch.stdin,
            writes=(*launch.writes, *writes),
            reads=(*launch.reads, *_beside(plan)),
        )

    def _install(self, plan: LoadPlan) -> Install:
        method = _method(plan)
        need = NEEDS.get(method)
        on_processor = set(plan.placement.device_bytes) <= {"cpu"}
        if need and need.gpu and on_processor:
            raise LoadFailed(
                plan.model.id,
                f"its weights are quantized by {method}, and to run them Transformers needs {need.gpu} and, in its "
                f"environment, {' and '.join(need.packages)}; another quantization of the same model, such as a GGUF "
                "file, runs here",
            )
        # By its own name it also runs what does not need it.
        name = GPTQ if method in WITH_GPTQMODEL or plan.options.engine == GPTQ else NAME
        found = self._installed(name, plan.options.engine_version)
        if found is None:
            label = plan.options.engine_version
            command = f"uml engine install {name}" + (f"=={label}" if label else "")
            raise EngineNotInstalled(name, plan.model.id, command)
        return found

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """What the worker wrote last, else what the library did, else what its signal says."""
        told = handover.failure_in(log) or handover.cause_of_exit(plan, exit_code)
        if told is None and any(sentence in log[-4000:] for sentence in WITHOUT_MEMORY):
            return OutOfMemory(plan.model.id, plan.placement.device, plan.footprint.total_bytes)
        return told


def _method(plan: LoadPlan) -> str:
    quantization = plan.model.info.quantization
    return quantization.method if quantization else "none"


def _beside(plan: LoadPlan) -> tuple[Path, ...]:
    """Folders that a worker reads beside its model's files: the model's own, for what the plan has not listed."""
    info = plan.model.info
    folder = info.path if info.path.is_dir() else info.path.parent
    return (folder,)
