"""llama.cpp from the parent's side: the built-in library, or a `llama-server` of the user's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from uml.core.engine import Ask, Availability, Endpoint, EngineSpec, Held, Launch, SessionKey
from uml.core.errors import UmlError
from uml.core.install import Installed, nowhere
from uml.core.model import Model
from uml.core.plan import Buffer, LoadPlan
from uml.engines import handover
from uml.engines.llamacpp import build, order, slots
from uml.engines.llamacpp.buffers import buffers
from uml.engines.llamacpp.causes import cause
from uml.engines.llamacpp.checks import check
from uml.engines.llamacpp.dryrun import DryRuns
from uml.engines.llamacpp.dryrun_library import WheelOracle, library_path
from uml.engines.llamacpp.dryrun_tool import ServerOracle
from uml.engines.llamacpp.meaning import gpus
from uml.engines.llamacpp.spec import EXTERNAL_ONLY, GBNF, NAME, spec
from uml.engines.llamacpp.table import HONOURED
from uml.planning.refine import Known

ENVIRONMENT: Final = {
    # An abort would start a debugger on its own process and take seconds to die.
    "GGML_NO_BACKTRACE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
SPIN: Final = {
    # How often a thread looks before it sleeps, between two steps of a computation. libgomp's default, for
    # milliseconds, makes a machine that does anything else besides as slow as 1/100; this one costs an idle one
    # nothing (benchmarks/busy.py). Whoever has set it knows better.
    "GOMP_SPINCOUNT": "30000",
}
_THREADS: Final = 16
"""Of the process, beside those that compute and those that answer."""


class LlamaCpp:
    """One engine, two ways to run it, one contract.

    server: path of a `llama-server`; None for the library that comes with this package, or that was built for this
    machine, where `installed` finds one in use. Arguments are those
    of build b11549; a program of that build was run with all of them but those for GPUs, and held to the contract
    of the library, on 2026-11-21 (tests/worker, with UML_TEST_LLAMA_SERVER).
    """

    def __init__(self, server: Path | None = None, installed: Installed = nowhere) -> None:
        self.server = server
        self._installed = installed
        embedded = HONOURED - EXTERNAL_ONLY
        self._spec = (
            spec(HONOURED | {"engine"}, build.server_devices(server))
            if server
            else spec(embedded | {"engine"}, build.embedded_devices())
        )
        wheel = WheelOracle(library_path)
        self._dry_runs = DryRuns(ServerOracle(server, wheel) if server else wheel)

    @property
    def spec(self) -> EngineSpec:
        """What it is: JSON schemas of completions are followed by llguidance in the wheel, else by llama.cpp itself."""
        own = None if self.server else self._installed(NAME, "")
        return replace(self._spec, schemas=GBNF) if self.server or (own and not own.shared) else self._spec

    def available(self) -> Availability:
        """Whether the program can be run or the library is installed; neither is started."""
        if self.server:
            if not os.access(self.server, os.X_OK) or not self.server.is_file():
                return Availability(False, way="external", reason=f"{self.server} is not a program that can be run")
            version = build.server_version(self.server)
            return Availability(True, version, "external", str(self.server), self._spec.devices)
        own = self._installed(NAME, "")
        if own and not own.shared:
            return Availability(True, own.version, "native", str(own.folder), self._spec.devices)
        version = build.embedded_version()
        if not version:
            return Availability(False, way="embedded", reason="the package xllamacpp is not installed")
        return Availability(True, version, "embedded", "comes with this package", self._spec.devices)

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker. Raises BadOption for what would end it."""
        check(plan, external=self.server is not None)
        own = None if self.server else self._installed(NAME, plan.options.engine_version)
        if self.server is None:
            words, line = ["--engine", NAME], order.for_library(plan, endpoint)
            environment = {**_environment(), **build.visible_devices(gpus(plan))}
        else:
            words, line = ["--exec"], order.for_program(self.server, plan, endpoint)
            environment = _environment()
        return Launch(
            argv=(*handover.worker(own), *words),
            environment=environment,
            stdin=line,
            writes=(endpoint.sessions,) if endpoint.sessions else (),
            reads=(self.server,) if self.server else (own.folder,) if own and not own.shared else (),
            threads=order.http_threads(plan) + _THREADS,
        )

    def foretell(self, plan: LoadPlan) -> bool:
        """Have a dry run tell what this load would take, unless it has; may take a second."""
        return self._dry_runs.foretell(plan)

    def foretold(self, model: Model) -> Known:
        """What dry runs have told of this model."""
        return self._dry_runs.foretold(model)

    def buffers(self, plan: LoadPlan, log: str) -> tuple[Buffer, ...]:
        """What memory a worker has made, by the log of its load; a program of the user's does not tell."""
        return buffers(plan, log)

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """A typed cause from the end of a dead worker's log."""
        return cause(plan, log, exit_code)

    def session_key(self, plan: LoadPlan) -> SessionKey | str:
        """What a saved conversation of this plan depends on; or why none is kept."""
        state = self.available()
        return slots.session_key(plan, f"{state.way} {state.version}")

    def session_bytes(self, plan: LoadPlan, tokens: int) -> int:
        """About how large the file of so many tokens will be."""
        return slots.session_bytes(plan, tokens)

    async def held(self, plan: LoadPlan, ask: Ask) -> tuple[Held, ...]:
        """The slots that hold a conversation. Raises EngineError."""
        return await slots.held(plan, ask)

    async def save_session(self, ask: Ask, slot: int, name: str) -> tuple[int, int]:
        """Write a slot to a file: tokens and bytes. Raises EngineError."""
        return await slots.save(ask, slot, name)

    def seal_session(self, plan: LoadPlan, path: Path) -> None:
        """Have the end of a conversation read again where a draft goes along. Raises EngineError and OSError."""
        slots.seal(plan, path)

    async def restore_session(self, ask: Ask, slot: int, name: str) -> int:
        """Read a file into a slot: tokens. Raises EngineError."""
        return await slots.restore(ask, slot, name)

    def system_info(self) -> dict[str, bool]:
        """Instruction sets that the build uses, by the engine's names; empty where it does not tell."""
        own = self._installed(NAME, "")
        return build.system_info(self.server, own.python if own else None)


def _environment() -> dict[str, str]:
    return ENVIRONMENT | {name: value for name, value in SPIN.items() if name not in os.environ}
