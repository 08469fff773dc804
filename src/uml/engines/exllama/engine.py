"""ExLlama from the parent's side. Neither library is imported here: they compile kernels when they are."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from uml.core.engine import Availability, Endpoint, EngineSpec, Launch
from uml.core.errors import EngineNotInstalled, UmlError
from uml.core.install import Installed, nowhere
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.exllama.meaning import check, gpus
from uml.engines.exllama.spec import SPEC_V2, SPEC_V3

ENVIRONMENT: Final = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
_ARCHITECTURE: Final = re.compile(r'^\s+arch_string = "(\w+)"', re.MULTILINE)


class ExLlama:
    """ExLlamaV3 or ExLlamaV2 in an install's environment, told without importing it.

    Not run on a GPU yet: its calls were read from the libraries' source, and are held against stand-ins of them that
    take these calls and no others.

    installed: finds the environments of engines.
    """

    def __init__(self, spec: EngineSpec, installed: Installed = nowhere) -> None:
        self.spec = spec
        self._installed = installed

    def available(self) -> Availability:
        """Whether there is an install."""
        install = self._installed(self.spec.name, "")
        if install is None:
            return Availability(False, way="hosted", reason=self.spec.install_command)
        where = "beside this package" if install.shared else str(install.folder)
        known = architectures(install.folder) if self.spec is SPEC_V3 else frozenset()
        return Availability(True, install.version, "hosted", where, architectures=known)

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker. Raises EngineNotInstalled, BadOption."""
        name, label = self.spec.name, plan.options.engine_version
        install = self._installed(name, label)
        if install is None:
            mark = f"=={label}" if label else ""
            raise EngineNotInstalled(f"{name}{mark}", plan.model.id, f"{self.spec.install_command}{mark}")
        check(plan)
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpu.partition(":")[2] for gpu in gpus(plan))} if gpus(plan) else {}
        return handover.launch(name, plan, endpoint, {**ENVIRONMENT, **visible}, install)

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """What the worker wrote last, else what its signal says."""
        return handover.failure_in(log) or handover.cause_of_exit(plan, exit_code)


def version_3(installed: Installed = nowhere) -> ExLlama:
    """ExLlamaV3."""
    return ExLlama(SPEC_V3, installed)


def version_2(installed: Installed = nowhere) -> ExLlama:
    """ExLlamaV2, for EXL2 only."""
    return ExLlama(SPEC_V2, installed)


@cache
def architectures(folder: Path) -> frozenset[str]:
    """What the ExLlamaV3 in this environment knows, read from its source; empty where that is not found."""
    found: set[str] = set()
    for path in folder.glob("lib/python3.*/site-packages/exllamav3/architecture/*.py"):
        try:
            found.update(_ARCHITECTURE.findall(path.read_text("utf-8")))
        except OSError:
            return frozenset()
    return frozenset(found)
