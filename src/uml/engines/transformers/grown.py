"""Keys and values of an answer that has no row, with room for all of its tokens from the first one on.

The library's own are copied for every token that comes. Those copies, and the holes that they leave behind, took as
much again as eight texts of 1,500 tokens hold.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer

from uml.engines.transformers.slots import zeros


class GrownLayer(CacheLayerMixin):  # type: ignore[misc] # a class of a library without types
    """A layer that attends to everything: `[texts, heads, room, size]`, made when the first step tells the sizes."""

    is_sliding = False

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room, self._held = room, 0
        self._made: tuple[torch.Tensor, ...] = ()

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room; pages of it are the system's until they are written."""
        self._made = tuple(
            zeros((*states.shape[:2], self._room, states.shape[3]), states) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *rest: Any, **more: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write further keys and values, `[texts, heads, tokens, size]`; all that there are now."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self._held = self._held, self._held + key_states.shape[2]
        for made, new in zip(self._made, (key_states, value_states), strict=True):
            made[:, :, start : self._held] = new
        self.keys, self.values = (made[:, :, : self._held] for made in self._made)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Let each text go on with what the text of this index holds."""
        for made in self._made:
            held = made[:, :, : self._held]
            held.copy_(held.index_select(0, beam_idx.to(held.device)))

    def get_seq_length(self) -> int:
        """Tokens of each text."""
        return self._held

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` gives for a step of so many tokens."""
        return self._held + query_length, 0

    def get_max_length(self) -> int:
        """Tokens that there is room for."""
        return self._room


def grown(config: Any, room: int) -> Cache:
    """The cache of one model for texts of up to `room` tokens; layers with a window keep theirs as the library does."""
    layers = DynamicCache(config=config).layers
    return Cache(layers=[GrownLayer(room) if type(layer) is DynamicLayer else layer for layer in layers])
