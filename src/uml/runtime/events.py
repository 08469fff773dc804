"""What the scheduler is told, and what it answers.

A *ticket* is one request's place in the queue and, once granted, its hold on a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from uml.core.errors import UmlError
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.evict import Running


@dataclass(frozen=True, slots=True)
class Asked:
    """A request wants a model.

    options: how it must be loaded; None: however it is, else as it was last asked for, else the defaults.
    slots: how many of the worker's slots the request takes; 0 for one that only needs it loaded.
    needs: names of flags of `LoadOptions` without which it cannot be answered.
    """

    ticket: int
    model: Model
    options: LoadOptions | None = None
    slots: int = 1
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """The client has gone before, or just as, its ticket was granted.

    abandon: nobody else wanting it, a load that is under way is to stop too.
    """

    ticket: int
    abandon: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """A granted request is over."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A started worker serves."""

    model: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A started worker ended without ever serving."""

    model: str
    error: UmlError


@dataclass(frozen=True, slots=True)
class Exited:
    """The process of a worker has ended: after Ready, or because it was stopped."""

    model: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A look at the machine, taken when memory had settled."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Unload:
    """Somebody wants these models out. A busy one goes when its requests are done."""

    models: tuple[str, ...]


Event = Asked | Left | Released | Ready | Failed | Exited | Measured | Unload


@dataclass(frozen=True, slots=True)
class Start:
    """Start a worker for this plan."""

    plan: LoadPlan


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop this model's worker; Exited follows."""

    model: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The ticket may use the model's worker."""

    ticket: int
    model: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The ticket gets an error."""

    ticket: int
    error: UmlError


Effect = Start | Stop | Grant | Refuse


class Planner(Protocol):
    """`planning.plan` with engines and budget already given."""

    def __call__(self, model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running]) -> LoadPlan:
        """The plan, or an UmlError; DoesNotFit when idle models do not free enough."""
        ...


class Preparer(Protocol):
    """What takes too long for a planner; called in a thread, with what the planner will be given."""

    def __call__(self, model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running]) -> None:
        """Find out; what it raises is taken for nothing found."""
        ...
