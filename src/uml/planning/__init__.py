"""Who runs a model, how many bytes it takes, where they go and who leaves first. Pure: plain data in and out."""

from uml.planning.estimate import estimate
from uml.planning.evict import Running, evict
from uml.planning.place import place
from uml.planning.plan import plan
from uml.planning.rank import Ranked, choice, rank
from uml.planning.resolve import resolve_options

__all__ = ["Ranked", "Running", "choice", "estimate", "evict", "place", "plan", "rank", "resolve_options"]
