"""What the scheduler is told, and what it answers.

A *ticket* is one request's place in the queue and, once granted, its hold on a worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from uml.core.errors import DoesNotFit, UmlError
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.evict import Running


@dataclass(frozen=True, slots=True)
class Asked:
    """A request wants a model.

    options: how it must be loaded; None: however it is, else as it was last asked for, else as usual.
    usual: how it is loaded where nobody says; None: as it was, else by the defaults.
    slots: how many of the worker's slots the request takes; 0 for one that only needs it loaded.
    needs: names of flags of `LoadOptions` without which it cannot be answered.
    keep_alive_s: how long the model stays idle from now on; None: as before.
    person: somebody asks for the very load, which lifts what holds a request back: a breaker, a
        quarantine, another model's turn.
    wants: what the engine should be able to do, where the model has yet to be loaded and its options leave the
        engine open; one that is loaded serves as it is.
    """

    ticket: int
    model: Model
    options: LoadOptions | None = None
    slots: int = 1
    needs: tuple[str, ...] = ()
    keep_alive_s: float | None = None
    person: bool = False
    wants: tuple[str, ...] = ()
    usual: LoadOptions | None = None


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
    """The process of a worker has ended: after Ready, because it was stopped, or because it was for a conversion.

    error: why, where nobody had asked for it.
    """

    model: str
    error: UmlError | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A look at the machine, taken when memory had settled."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a worker really needs, seen once it serves, and again when use has made it grow.

    device_bytes: in use, by device, in place of what its plan said. mapped_bytes: as `Running` has it.
    """

    model: str
    device_bytes: Mapping[str, int]
    mapped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Unload:
    """Somebody wants these models out. A busy one goes when its requests are done."""

    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """Somebody wants this model to be there: `pinned` is never evicted, `preloaded` only for a request; empty lets go.

    Both are loaded when memory is free, and again after a death; neither evicts another for it.
    options: how, where it has not been loaded yet.
    """

    model: Model
    how: Kept
    options: LoadOptions | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing has happened but time."""


Kept = Literal["", "pinned", "preloaded"]
Event = Asked | Left | Released | Ready | Failed | Exited | Measured | Weighed | Unload | Keep | Tick


@dataclass(frozen=True, slots=True)
class Start:
    """Start a worker for this plan."""

    plan: LoadPlan


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop this model's worker; Exited follows."""

    model: str
    reason: Reason = field(default="unloaded", compare=False)


Reason = Literal["evicted", "idle", "unloaded", "reloaded", "abandoned"]
"""Why a worker is stopped: another needs its memory, nobody used it, somebody said so, it is wanted with
other options, or the one who waited for its load has left."""


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


@dataclass(frozen=True, slots=True)
class Missed:
    """A model that is to be kept cannot be loaded now, for this reason. Told once for each reason."""

    model: str
    error: UmlError


Effect = Start | Stop | Grant | Refuse | Missed


class BetterLater(DoesNotFit):
    """A load is possible now, and a better one when those at work are done, for which a request waits.

    now: the plan for those who do not wait.
    """

    def __init__(self, shortage: DoesNotFit, now: LoadPlan) -> None:
        UmlError.__init__(self, shortage.message, **shortage.details)
        self.now = now


class Planner(Protocol):
    """`planning.plan` with engines and budget already given."""

    def __call__(
        self,
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running],
        wants: Sequence[str] = (),
        /,
    ) -> LoadPlan:
        """The plan, or an UmlError; DoesNotFit when idle models do not free enough. wants: see `Asked`.

        BetterLater only where it would plan for the same running models, all of them idle.
        """
        ...


class Preparer(Protocol):
    """What takes too long for a planner; called in a thread, with what the planner will be given."""

    def __call__(self, model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running]) -> None:
        """Find out; what it raises is taken for nothing found."""
        ...
