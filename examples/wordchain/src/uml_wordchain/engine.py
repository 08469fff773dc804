"""The parent's side: what the engine is, and how a worker is started. Never touches the library itself."""

from __future__ import annotations

from typing import Final

from uml.core.engine import Availability, Endpoint, EngineSpec, Launch
from uml.core.errors import UmlError
from uml.core.model import Format, Role
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.generation import only
from uml_wordchain.format import KIND

SPEC: Final = EngineSpec(
    name="wordchain",
    title="Word chain",
    formats=frozenset({Format.UNKNOWN}),
    kinds=frozenset({KIND}),
    roles=frozenset({Role.TEXT}),
    devices=frozenset({"cpu"}),
    split="whole",
    served=False,
    options=frozenset({"engine", "ctx", "parallel"}),
    # Requests that ask for anything else get a warning, and not silence.
    dialect=only("temperature", "seed"),
)


class WordChain:
    """The engine."""

    spec = SPEC

    def available(self) -> Availability:
        """Always: it needs nothing but Python."""
        return Availability(True, "1.0", "hosted", "a plug-in")

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """A worker around our `Host`."""
        return handover.launch_host("uml_wordchain.host:WordChainHost", plan, endpoint, {})

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """What the worker itself wrote, or what its signal says."""
        return handover.failure_in(log) or handover.cause_of_exit(plan, exit_code)
