"""vLLM from the parent's side: its server, out of an install or as a program of the user's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from uml.core.engine import Availability, Endpoint, Launch
from uml.core.errors import UmlError
from uml.core.install import Installed, nowhere
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.external import Program, cause
from uml.engines.vllm.arguments import arguments, visible
from uml.engines.vllm.causes import FINDINGS
from uml.engines.vllm.spec import SPEC
from uml.hardware import snapshot

ENVIRONMENT: Final = {
    # Nothing leaves the machine, and nothing is fetched: a model is on disk or is not there.
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


class Vllm:
    """`vllm serve` as a worker.

    Not run on a GPU yet: its arguments and parameters were read from version 0.32, and are held against a program that
    takes these and refuses others.

    installed: finds the environments of engines. program: a `vllm` of the user's, which comes before them.
    """

    def __init__(self, installed: Installed = nowhere, program: Path | None = None) -> None:
        self.spec = SPEC
        self._program = Program(SPEC, "vllm", frozenset({"cuda"}), installed, program)

    def available(self) -> Availability:
        """Whether there is a program; it is not started."""
        return self._program.available()

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker. Raises EngineNotInstalled, BadOption."""
        program, reads = self._program.find(plan)
        totals = {device.id: device.total_bytes for device in snapshot().gpus} if visible(plan) else {}
        order = {
            "argv": [str(program), *arguments(plan, endpoint, totals)],
            # The key is kept out of argv, which every user of the machine can read.
            "environment": {"VLLM_API_KEY": endpoint.key},
        }
        return Launch(
            argv=(*handover.worker(), "--exec"),
            environment={**ENVIRONMENT, **visible(plan)},
            stdin=json.dumps(order, separators=(",", ":")).encode() + b"\n",
            reads=reads,
            # Its front and its core are processes that talk to each other over sockets.
            loopback=True,
        )

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """A typed cause from the end of a dead worker's log."""
        return cause(FINDINGS, plan, log, exit_code)
