"""Who runs a model, how many bytes it takes, where they go and who leaves first. Pure: plain data in and out.

Best read from the end: `plan` takes the engine from `runner` (`rank`), makes a `case` of the load, and looks for its
best place, now and with idle models gone (`evict`); where there is none, `shortage` says what would do (`remedy`).

Options pass three stages. *Asked*: as they came, where 0 and auto leave things open. *Settled*, also called the basis:
all decided that does not depend on memory (`resolve.settled`). *Resolved*: nothing left open; `choose` tries contexts,
slots and cache types, `batches` follow from those, and `fit` weighs each try (`estimate`) and puts it in its `place`.
"""

from uml.planning.estimate import estimate
from uml.planning.evict import Running, evict
from uml.planning.place import place
from uml.planning.plan import plan
from uml.planning.rank import Ranked, choice, rank
from uml.planning.resolve import resolve_options

__all__ = ["Ranked", "Running", "choice", "estimate", "evict", "place", "plan", "rank", "resolve_options"]
