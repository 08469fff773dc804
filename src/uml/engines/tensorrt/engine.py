"""TensorRT-LLM from the parent's side: its server, out of an install or as a program of the user's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from uml.core.engine import Availability, Endpoint, Launch
from uml.core.errors import UmlError
from uml.core.install import Installed, nowhere
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.external import Program, cause, gpus
from uml.engines.tensorrt.arguments import arguments
from uml.engines.tensorrt.causes import FINDINGS
from uml.engines.tensorrt.spec import SPEC

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
        self._program = Program(SPEC, "trtllm-serve", SPEC.devices, installed, program)

    def available(self) -> Availability:
        """Whether there is a program; it is not started."""
        return self._program.available()

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker. Raises EngineNotInstalled, BadOption."""
        program, reads = self._program.find(plan)
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
            reads=reads,
            loopback=True,
        )

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """A typed cause from the end of a dead worker's log."""
        return cause(FINDINGS, plan, log, exit_code)
