"""A planner that has regard for conversations: a model comes back with room for those that were saved a moment ago.

What a load leaves open is decided by what is free. A model that comes back while others are at work would get a
smaller context than it had, and the next turn of a conversation that was fine a minute ago would be refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from uml.core.errors import DoesNotFit, UmlError
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.cache import PADDING
from uml.planning.evict import Running
from uml.runtime.scheduling.events import BetterLater, Planner
from uml.runtime.sessions.shelf import Kept

RECENT_S: Final = 3600.0
"""For so long a conversation is expected to go on: an older one makes nobody leave, and nobody wait."""
TURN_TOKENS: Final = 512
"""What a next turn takes at least; a quarter of the conversation, where that is more."""


class Remembering:
    """A `Planner` around another one. kept: the conversations of a model that are on disk.

    Of options that leave the context open: where what is free now would make it too small for the longest of them,
    or its cache of another type than it was read into, the first of these that can be had:

    1. room for it, in the cache that it was read into: idle models leave for that, as for any load. The context is
       no smaller than it would be without the conversation;
    2. the context that it would be, where there is room for it: its prompt is read again, as with the others below;
    3. room for it, whatever the cache;
    4. the same once those at work are done: BetterLater, for which a request waits;
    5. what is free.
    """

    def __init__(self, planner: Planner, kept: Callable[[str], Sequence[Kept]]) -> None:
        self._planner = planner
        self._kept = kept

    def __call__(
        self,
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running],
        wants: Sequence[str] = (),
        /,
    ) -> LoadPlan:
        """The plan. Raises what the other planner does."""
        usual = self._planner(model, options, machine, running, wants)
        kept = None if options.ctx else self._longest(model.id)
        if kept is None:
            return usual
        room, cache = _room_for(kept), _same_cache(options, kept)
        large = usual.options.ctx >= room
        if large and all(getattr(usual.options, name) == kind for name, kind in cache.items()):
            return usual

        def tried(running: Sequence[Running], **change: Any) -> LoadPlan | DoesNotFit | None:
            try:
                return self._planner(model, replace(options, **change), machine, running, wants)
            except DoesNotFit as shortage:
                return shortage
            except UmlError:
                return None  # its file, or what is asked of it, is another now

        found = tried(running, ctx=max(room, usual.options.ctx), **cache)
        if large:
            return _told(found, f"its cache is that of {_goes_on(kept)}") if isinstance(found, LoadPlan) else usual
        if not isinstance(found, LoadPlan):
            found = tried(running, ctx=room)
            idle = [replace(one, busy=False) for one in running]
            if isinstance(found, DoesNotFit) and isinstance(tried(idle, ctx=room), LoadPlan):
                raise BetterLater(found, usual)
        if isinstance(found, LoadPlan):
            return _told(found, f"ctx is {found.options.ctx}, for {_goes_on(kept)}")
        if usual.options.ctx < kept.tokens:
            return _told(usual, f"there is no memory for a conversation of {kept.tokens} tokens that was saved")
        return usual

    def _longest(self, model: str) -> Kept | None:
        """The longest of those that may go on."""
        since_ns = time.time_ns() - int(RECENT_S * 1e9)
        recent = [one for one in self._kept(model) if one.ctx and one.saved_ns >= since_ns]
        return max(recent, key=lambda one: one.tokens, default=None)


def _room_for(kept: Kept) -> int:
    """A context for it and its next turn, no larger than it had."""
    wanted = kept.tokens + max(TURN_TOKENS, kept.tokens // 4)
    return min(kept.ctx, -(-wanted // PADDING) * PADDING)


def _same_cache(options: LoadOptions, kept: Kept) -> dict[str, str]:
    """The types that it was read into, as far as they are open; none where the options say others."""
    wanted = {"cache_type_k": kept.cache_types[0], "cache_type_v": kept.cache_types[1]}
    if any(getattr(options, name) not in ("auto", kind) for name, kind in wanted.items()):
        return {}
    return {name: kind for name, kind in wanted.items() if getattr(options, name) == "auto"}


def _goes_on(kept: Kept) -> str:
    return f"a conversation of {kept.tokens} tokens that goes on"


def _told(plan: LoadPlan, sentence: str) -> LoadPlan:
    return replace(plan, warnings=(*plan.warnings, sentence))
