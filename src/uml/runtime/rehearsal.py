"""What an engine would refuse at a worker's start, asked while its load is still a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from uml.core.engine import Endpoint, Engine
from uml.core.plan import LoadPlan

NOWHERE: Final = Endpoint(key="rehearsal", socket=Path("/nowhere/w.sock"))


def rehearse(engine: Engine, plan: LoadPlan) -> None:
    """Have the command made that would start a worker, and throw it away. Raises what `Engine.launch` does.

    A refusal now costs nothing; at the start, whoever has left for this load would have left for nothing.
    """
    engine.launch(plan, NOWHERE)
