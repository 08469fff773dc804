"""A planner that has regard for conversations: a model comes back with room for those that were saved a moment ago.

What a load leaves open is decided by what is free. A model that comes back while others are at work would get a
smaller context than it had, and the next turn of a conversation that was fine a minute ago would be refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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
    """A `Planner` around another one. kept: the conversations of a model that are on disk. goes_on: whether a worker
    of a plan could read one back, see `Sessions.goes_on`.

    Where what is free now would make the context too small for the longest of them, or where they could be read back
    into a cache as it was and not into the one that it would be now, the first of these that can be had, as far as
    options leave it open:

    1. room for the longest, and the cache, in types and slots, of the longest that can be read back: idle models leave
       for that, as for any load. The context is no smaller and the slots are no fewer than without a conversation;
    2. the context that it would be, where there is room for it: its prompt is read again, as with the others below;
    3. room for it, whatever the cache;
    4. the same once those at work are done: BetterLater, for which a request waits;
    5. what is free.
    """

    def __init__(
        self,
        planner: Planner,
        kept: Callable[[str], Sequence[Kept]],
        goes_on: Callable[[LoadPlan, Kept], bool],
    ) -> None:
        self._planner = planner
        self._kept = kept
        self._goes_on = goes_on

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
        recent = self._recent(model.id)
        if not recent:
            return usual
        longest = recent[0]
        room = options.ctx or _room_for(longest)
        large = usual.options.ctx >= room
        read_back, cache = self._readable(recent, options, usual, max(room, usual.options.ctx))
        if large and _has(usual, cache):
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
            if not isinstance(found, LoadPlan) or not _no_worse(found, usual, cache):
                return usual
            return _told(found, f"its cache is that of {_talk(read_back)}")
        if not isinstance(found, LoadPlan):
            found = tried(running, ctx=room)
            idle = [replace(one, busy=False) for one in running]
            if isinstance(found, DoesNotFit) and isinstance(tried(idle, ctx=room), LoadPlan):
                raise BetterLater(found, usual)
        if isinstance(found, LoadPlan):
            return _told(found, f"ctx is {found.options.ctx}, for {_talk(longest)}")
        if usual.options.ctx < longest.tokens:
            return _told(usual, f"there is no memory for a conversation of {longest.tokens} tokens that was saved")
        return usual

    def _recent(self, model: str) -> list[Kept]:
        """Those that may go on, the longest first; of as long ones the last used."""
        since_ns = time.time_ns() - int(RECENT_S * 1e9)
        recent = [one for one in self._kept(model) if one.ctx and one.saved_ns >= since_ns]
        return sorted(recent, key=lambda one: (-one.tokens, -one.saved_ns))

    def _readable(
        self, recent: Sequence[Kept], options: LoadOptions, usual: LoadPlan, ctx: int
    ) -> tuple[Kept, dict[str, Any]]:
        """The first of them that can be read back, and the cache for it, as far as options leave that open.

        An empty cache where none can.
        """
        now = _open(options, usual.options.cache_type_k, usual.options.cache_type_v, usual.options.parallel)
        for kept in recent:
            for cache in (now, _open(options, *kept.cache_types, kept.parallel)):
                had = replace(usual, options=replace(usual.options, ctx=ctx, **cache))
                if kept.tokens <= ctx and had.options.parallel >= usual.options.parallel and self._goes_on(had, kept):
                    return kept, cache
        return recent[0], {}


def _room_for(kept: Kept) -> int:
    """A context for it and its next turn, no larger than it had."""
    wanted = kept.tokens + max(TURN_TOKENS, kept.tokens // 4)
    return min(kept.ctx, -(-wanted // PADDING) * PADDING)


def _open(options: LoadOptions, keys: str, values: str, parallel: int) -> dict[str, Any]:
    """A cache, as far as the options leave it open."""
    types = {"cache_type_k": keys, "cache_type_v": values}
    found: dict[str, Any] = {name: kind for name, kind in types.items() if getattr(options, name) == "auto"}
    return found if options.parallel else {**found, "parallel": parallel}


def _has(plan: LoadPlan, cache: Mapping[str, Any]) -> bool:
    return all(getattr(plan.options, name) == value for name, value in cache.items())


def _no_worse(found: LoadPlan, usual: LoadPlan, cache: Mapping[str, Any]) -> bool:
    """Whether it has as good a place, and nobody leaves for slots alone: its prompt is sooner read again."""
    one, other = found.placement, usual.placement
    types = {name: value for name, value in cache.items() if name != "parallel"}
    alone = set(found.evict) <= set(usual.evict) or not _has(usual, types)
    return alone and one.gpu_layers >= other.gpu_layers and one.expert_layers <= other.expert_layers


def _talk(kept: Kept) -> str:
    return f"a conversation of {kept.tokens} tokens that goes on"


def _told(plan: LoadPlan, sentence: str) -> LoadPlan:
    return replace(plan, warnings=(*plan.warnings, sentence))
