"""vLLM from the parent's side: its server, out of an install or as a program of the user's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from uml.core.engine import Availability, Endpoint, Launch
from uml.core.errors import EngineNotInstalled, UmlError
from uml.core.install import Install, Installed, nowhere
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.vllm.arguments import arguments, visible
from uml.engines.vllm.causes import cause
from uml.engines.vllm.spec import INSTALL, NAME, SPEC
from uml.hardware import snapshot

ENVIRONMENT: Final = {
    # Nothing leaves the machine, and nothing is fetched: a model is on disk or is not there.
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


INSTALLED: Final = frozenset({"cuda"})
"""Kinds of devices that an install can use: its wheels are for them alone. A program of the user's may use others."""


class Vllm:
    """`vllm serve` as a worker.

    Not run on a GPU yet: its arguments and parameters were read from version 0.32, and are held against a program that
    takes these and refuses others.

    installed: finds the environments of engines. program: a `vllm` of the user's, which comes before them.
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
            return Availability(False, way="external", reason=INSTALL, devices=INSTALLED)
        devices = frozenset({install.accelerator})
        return Availability(True, install.version, "external", str(install.folder), devices)

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker. Raises EngineNotInstalled, BadOption."""
        label = plan.options.engine_version
        install = self._installed(NAME, label) if label or not self._program else None
        program = program_of(install) if install else None if label else self._program
        if program is None:
            engine, command = (f"{NAME}=={label}", f"{INSTALL}=={label}") if label else (NAME, INSTALL)
            raise EngineNotInstalled(engine, plan.model.id, command)
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
            reads=(install.folder,) if install else (program.parent.parent,),
            # Its front and its core are processes that talk to each other over sockets.
            loopback=True,
        )

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """A typed cause from the end of a dead worker's log."""
        return cause(plan, log, exit_code)


def program_of(install: Install) -> Path:
    """The server's program in an install: beside its interpreter."""
    return install.python.parent / "vllm"
