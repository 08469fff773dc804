"""ONNX Runtime from the parent's side."""

from __future__ import annotations

from typing import Final

from uml.core.engine import Availability, Endpoint, Launch
from uml.core.errors import BadOption, EngineNotInstalled, UmlError
from uml.core.install import Installed, nowhere
from uml.core.model import Format
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.onnx.spec import INSTALL, NAME, SPEC

ENVIRONMENT: Final = {
    # Both libraries bring a sender of usage data that is on by default. Its switch in their interfaces comes too late.
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # They have threads of their own; those of numpy's libraries would only stand in the way.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Onnx:
    """ONNX Runtime in an install's environment, told without importing it.

    installed: finds the environments of engines.
    """

    def __init__(self, installed: Installed = nowhere) -> None:
        self.spec = SPEC
        self._installed = installed

    def available(self) -> Availability:
        """Whether there is an install."""
        install = self._installed(NAME, "")
        if install is None:
            return Availability(False, way="hosted", reason=INSTALL)
        where = "beside this package" if install.shared else str(install.folder)
        return Availability(True, install.version, "hosted", where)

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker. Raises EngineNotInstalled, BadOption."""
        label = plan.options.engine_version
        install = self._installed(NAME, label)
        if install is None:
            raise EngineNotInstalled(
                f"{NAME}=={label}" if label else NAME, plan.model.id, f"{INSTALL}=={label}" if label else INSTALL
            )
        check(plan)
        return handover.launch(NAME, plan, endpoint, ENVIRONMENT, install)

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """What the worker wrote last, else what its signal says."""
        return handover.failure_in(log) or handover.cause_of_exit(plan, exit_code)


def check(plan: LoadPlan) -> None:
    """Options that can be seen to be wrong before a process is started for them. Raises BadOption."""
    options = plan.options
    if plan.model.info.format is Format.ONNX_GENAI and options.pooling not in ("auto", "none"):
        raise BadOption("pooling", options.pooling, "auto: this model generates text, and has no vectors to pool")
    for adapter in options.lora:
        path, sign, scale = adapter.rpartition("=")
        if sign and path.endswith(".onnx_adapter") and scale not in ("1", "1.0", "0", "0.0"):
            raise BadOption("lora", adapter, "a scale of 1 or 0: ONNX Runtime GenAI takes adapters as they are")
        if not (path if sign else adapter).endswith(".onnx_adapter"):
            raise BadOption("lora", adapter, "a file that ends in .onnx_adapter")
