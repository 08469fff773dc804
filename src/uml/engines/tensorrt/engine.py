"""TensorRT-LLM from the parent's side: its server, out of an install or as a program of the user's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from uml.core.engine import Availability, Endpoint, Launch
from uml.core.errors import EngineNotInstalled, UmlError
from uml.core.install import Installed, nowhere
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.tensorrt.arguments import arguments, gpus
from uml.engines.tensorrt.causes import cause
from uml.engines.tensorrt.spec import INSTALL, NAME, SPEC

ENVIRONMENT: Final = {
    # Nothing leaves the machine, and nothing is fetched: a model is on disk or is not there.
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


class TensorRt:
    """`trtllm-serve` as a worker. It listens on a port only: `uml.worker --bridge` stands in front of it.

    Not run on a GPU yet: its arguments and parameters were read from its source, and are held against a program that
    takes these and refuses others. It has no key: without a sandbox its port is open to the users of this machine.

    installed: finds the environments of engines. program: a `trtllm-serve` of the user's, which comes before them.
    """

    def __init__(self, installed: Installed = nowhere, program: Path | None = None) -> None:
        self.spec = SPEC
        self._installed = installed
        self._program = program

    def available(self) -> Availability:
        """Whether there is a program; it is not started."""
        if self._program:
            if not self._program.is_file() or not os.access(self._program, os.X_OK):
                return Availability(False, way="external", reason=f"{self._program} is not a program that can be run")
            return Availability(True, "", "external", str(self._program))
        install = self._installed(NAME, "")
        if install is None:
            return Availability(False, way="external", reason=INSTALL)
        return Availability(True, install.version, "external", str(install.folder))

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker. Raises EngineNotInstalled, BadOption."""
        label = plan.options.engine_version
        install = self._installed(NAME, label) if label or not self._program else None
        program = install.python.parent / "trtllm-serve" if install else None if label else self._program
        if program is None:
            engine, command = (f"{NAME}=={label}", f"{INSTALL}=={label}") if label else (NAME, INSTALL)
            raise EngineNotInstalled(engine, plan.model.id, command)
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpu.partition(":")[2] for gpu in gpus(plan))} if gpus(plan) else {}
        order: dict[str, object] = {"environment": {}}
        if endpoint.socket:
            way, listen = "--bridge", ("127.0.0.1", "{port}")
            order["socket"] = str(endpoint.socket)
        else:
            way, listen = "--exec", (endpoint.host, str(endpoint.port))
        order["argv"] = [str(program), *arguments(plan, *listen)]
        return Launch(
            argv=(*handover.worker(), way),
            environment={**ENVIRONMENT, **visible},
            stdin=json.dumps(order, separators=(",", ":")).encode() + b"\n",
            reads=(install.folder,) if install else (program.parent.parent,),
            loopback=True,
        )

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """A typed cause from the end of a dead worker's log."""
        return cause(plan, log, exit_code)
