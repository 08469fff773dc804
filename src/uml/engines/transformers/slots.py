"""Keys and values of several conversations in one block of memory a layer, a row for each.

Rows in use are the first ones, without gaps, so that a step over all of them reads its memory as it lies: nothing is
gathered or copied for it. A row that ends changes places with the last one in use, and keeps what it holds until
somebody else takes it: a conversation that goes on finds its own beginning there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


class GivenUp(Exception):
    """Raised from the middle of a step, at the next layer, once nobody waits for it."""


@dataclass(slots=True)
class Step:
    """The rows that the model computes next.

    first: of the rows. starts: tokens that each row holds already. counts: new tokens of each; the longest says how
    wide the step is, and what shorter rows have behind their end is never read.
    """

    first: int = 0
    starts: Sequence[int] = (0,)
    counts: Sequence[int] = (1,)
    given_up: Callable[[], bool] = field(default=lambda: False)
    places: torch.Tensor | None = None
    """Where each row of a step of one token a row writes it."""

    @property
    def ends(self) -> list[int]:
        """Tokens of each row after the step."""
        return [start + count for start, count in zip(self.starts, self.counts, strict=True)]


class FullLayer(CacheLayerMixin):  # type: ignore[misc] # a class of a library without types
    """A layer that attends to everything: `[rows, heads, context, size]`, made when the first step tells the sizes."""

    is_sliding = False

    def __init__(self, step: Step, rows: int, context: int) -> None:
        super().__init__()
        self.step, self.rows, self.context = step, rows, context

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room; pages of it are the system's until they are written."""
        self.keys, self.values = (
            zeros((self.rows, states.shape[1], self.context, states.shape[3]), states)
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *rest: Any, **more: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the step's keys and values, `[rows of the step, heads, width, size]`; all that its rows hold now."""
        if self.step.given_up():
            raise GivenUp
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def _write(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        step = self.step
        first, rows = step.first, len(step.starts)
        if rows == 1:
            end = step.starts[0] + step.counts[0]
            kept[first, :, step.starts[0] : end] = new[0]
            return kept[first : first + 1, :, :end]
        if step.places is not None:
            kept[torch.arange(first, first + rows, device=kept.device), :, step.places] = new[:, :, 0]
        else:
            for row, (start, count) in enumerate(zip(step.starts, step.counts, strict=True)):
                kept[first + row, :, start : start + count] = new[row, :, :count]
        return kept[first : first + rows, :, : max(step.ends)]

    def swap(self, one: int, other: int, length: int) -> None:
        """Let two rows, of which the longer one holds so many tokens, change places."""
        if self.is_initialized:
            for kept in (self.keys, self.values):
                left, right = kept[one, :, :length], kept[other, :, :length]
                saved = left.clone()
                left.copy_(right)
                right.copy_(saved)

    def get_seq_length(self) -> int:
        """Tokens of the longest row before the step."""
        return max(self.step.starts)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` gives for a step of one row."""
        return max(self.step.starts) + query_length, 0

    def get_max_length(self) -> int:
        """Tokens that a row can hold."""
        return self.context


def zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """A tensor of zeros. A shorter row of a step is computed over what it does not hold yet, times nothing: what the
    memory happened to hold there, a NaN or an infinity, would be the answer of every row.
    """
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    # `torch.zeros` would write all of it, and have it.
    room = numpy.zeros(math.prod(shape) * like.element_size(), dtype=numpy.uint8)
    return torch.from_numpy(room).view(like.dtype).view(shape)


class WindowLayer(FullLayer):
    """A layer that attends to the last tokens only: a ring of as many as its window."""

    is_sliding = True

    def __init__(self, step: Step, rows: int, context: int, window: int) -> None:
        super().__init__(step, rows, min(context, window))
        self.window = window

    def _write(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        step, ring = self.step, self.context
        first, rows, width = step.first, len(step.starts), new.shape[2]
        if width == 1:
            places = torch.tensor([start % ring for start in step.starts], device=kept.device)
            kept[torch.arange(first, first + rows, device=kept.device), :, places] = new[:, :, 0]
            return kept[first : first + rows, :, : min(max(step.ends), ring)]
        start, before = step.starts[0], self._before(step.starts[0])
        order = torch.arange(start - before, start, device=kept.device) % ring
        whole = torch.cat([kept[first : first + 1].index_select(2, order), new], dim=2)
        last = min(width, ring)
        places = torch.arange(start + width - last, start + width, device=kept.device) % ring
        kept[first].index_copy_(1, places, new[0, :, width - last :])
        return whole

    def _before(self, start: int) -> int:
        return min(start, self.window - 1, self.context)

    def swap(self, one: int, other: int, length: int) -> None:
        """Let two rows, of which the longer one holds so many tokens, change places."""
        super().swap(one, other, min(length, self.context))

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` gives for a step of one row."""
        start = max(self.step.starts)
        if query_length == 1:
            length = min(start + 1, self.context)
            return length, start + 1 - length
        before = self._before(start)
        return before + query_length, start - before

    def get_max_length(self) -> int:
        """Tokens that a row can hold."""
        return self.window


class Slots(Cache):  # type: ignore[misc] # a class of a library without types
    """Room for `rows` conversations of `context` tokens each, as the cache of one model."""

    def __init__(self, config: Any, rows: int, context: int) -> None:
        self.step = Step()
        super().__init__(layers=[self._layer(layer, rows, context) for layer in DynamicCache(config=config).layers])

    def _layer(self, like: Any, rows: int, context: int) -> FullLayer:
        if isinstance(like, DynamicSlidingWindowLayer):
            return WindowLayer(self.step, rows, context, like.sliding_window)
        return FullLayer(self.step, rows, context)

    def swap(self, one: int, other: int, length: int) -> None:
        """Let two rows, of which the longer one holds so many tokens, change places."""
        for layer in self.layers:
            layer.swap(one, other, length)

    @property
    def ring(self) -> int:
        """Tokens that layers with a window keep; 0 where there are none. A row that holds more cannot go back."""
        return max((layer.context for layer in self.layers if layer.is_sliding), default=0)

    @property
    def mixed(self) -> bool:
        """Whether some layers have a window and some have none."""
        return len({layer.is_sliding for layer in self.layers}) > 1


def can_keep(config: Any) -> bool:
    """Whether every layer of a model is of a kind that can be kept so: attention to everything, or to one window.

    States of recurrent layers, encoders and layers that share others' keys are not.
    """
    if config.is_encoder_decoder:
        return False
    layers = DynamicCache(config=config).layers
    windows = {layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)}
    kinds = set(getattr(config.get_text_config(decoder=True), "layer_types", None) or ())
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return bool(layers) and plain and len(windows) <= 1 and kinds <= {"full_attention", "sliding_attention"}
