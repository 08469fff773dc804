"""vLLM from the parent's side: its server, out of an install or as a program of the user's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from uml.core.engine import Ask, Availability, Endpoint, Launch
from uml.core.errors import EngineError, UmlError
from uml.core.install import Installed, nowhere
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.external import Program, cause
from uml.engines.vllm.arguments import arguments, can_sleep, visible
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
FOR_SLEEP: Final = {"VLLM_SERVER_DEV_MODE": "1"}
"""What opens the endpoints of sleep, among others that call any method of the server's workers. So they are opened
only where nobody but the owner of this server reaches them: on a socket in a folder of its own."""


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
        sleeps = endpoint.socket is not None and can_sleep(plan)
        order = {
            "argv": [str(program), *arguments(plan, endpoint, totals)],
            # The key is kept out of argv, which every user of the machine can read.
            "environment": {"VLLM_API_KEY": endpoint.key},
        }
        return Launch(
            argv=(*handover.worker(), "--exec"),
            environment={**ENVIRONMENT, **visible(plan), **(FOR_SLEEP if sleeps else {})},
            stdin=json.dumps(order, separators=(",", ":")).encode() + b"\n",
            reads=reads,
            # Its front and its core are processes that talk to each other over sockets.
            loopback=True,
        )

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """A typed cause from the end of a dead worker's log."""
        return cause(FINDINGS, plan, log, exit_code)

    def can_sleep(self, plan: LoadPlan) -> bool:
        """Whether a worker of this plan may leave its GPUs and stay."""
        return can_sleep(plan)

    async def sleep(self, ask: Ask) -> None:
        """Weights go to main memory, and the cache away: level 1 of `vllm/entrypoints/serve/sleep`."""
        await _told(ask, "/sleep?level=1", asleep=True)

    async def wake(self, ask: Ask) -> None:
        """Weights come back, and room for a cache."""
        await _told(ask, "/wake_up", asleep=False)


async def _told(ask: Ask, path: str, *, asleep: bool) -> None:
    """Have it done, and see that it was."""
    status, body = await ask("POST", path, b"")
    if status == 200:
        status, body = await ask("GET", "/is_sleeping", b"")
    if status != 200 or json.loads(body) != {"is_sleeping": asleep}:
        raise EngineError("vLLM", f"POST {path} came to {status}, {body[:200].decode(errors='replace')}")
