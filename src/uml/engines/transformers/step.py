"""One step of a model over several rows: what goes in, and the scores that come out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from uml.engines.transformers.slots import Slots, can_keep


def can_step(model: Any) -> bool:
    """Whether a model's rows can be at different places of their texts in one step."""
    known = inspect.signature(model.forward).parameters
    # ALiBi is made of which tokens there are, and takes no mask that says what each may see.
    alibi = getattr(model.config, "alibi", False)
    return "position_ids" in known and "attention_mask" in known and not alibi and can_keep(model.config)


class Stepper:
    """Runs a model over rows of its slots.

    context: tokens a row can hold. dtype, device: of masks and inputs, as the model has them.
    """

    def __init__(self, model: Any, rows: int, context: int) -> None:
        self.model, self.context = model, context
        self.slots = Slots(model.config, rows, context)
        self.device, self.dtype = model.device, model.dtype
        self._keeps_logits = model._supports_logits_to_keep()

    def __call__(
        self,
        first: int,
        starts: Sequence[int],
        tokens: Sequence[Sequence[int]],
        keep: int,
        given_up: Callable[[], bool],
    ) -> torch.Tensor:
        """Read further tokens into rows, from `first` on; the scores after the last `keep` of each.

        starts: what each row holds. tokens: what each gets, from 1 to as many as there is room for; a row whose layers
        have windows gets 1 while it is not alone. Result: `[rows, keep, vocabulary]`; what a row with fewer tokens
        than `keep` has at its front means nothing. Called in inference mode. Raises GivenUp.
        """
        counts = [len(row) for row in tokens]
        width = max(counts)
        step = self.slots.step
        step.first, step.starts, step.counts, step.given_up = first, starts, counts, given_up
        ids = torch.tensor([[*row, *([0] * (width - len(row)))] for row in tokens], device=self.device)
        begins = torch.tensor(starts, device=self.device)
        step.places = begins if width == 1 else None
        positions = begins[:, None] + torch.arange(width, device=self.device)
        even = len(set(counts)) == 1
        extra = {"logits_to_keep": keep} if self._keeps_logits and even else {}
        scores: torch.Tensor = self.model(
            input_ids=ids,
            attention_mask=None if len(counts) == 1 else self._mask(positions, max(step.ends)),
            position_ids=positions,
            past_key_values=self.slots,
            use_cache=True,
            **extra,
        ).logits
        if even:
            return scores[:, -keep:]
        # Rows end at different places: each one's own last columns.
        ends = torch.tensor(counts, device=self.device)[:, None] - torch.arange(keep, 0, -1, device=self.device)
        return scores.gather(1, ends.clamp(min=0)[:, :, None].expand(-1, -1, scores.shape[2]))

    def _mask(self, positions: torch.Tensor, length: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """What every new token sees, `[rows, 1, width, length]`: 0 for that, else the lowest number there is."""
        full = self._seen(positions, length)
        ring = self.slots.ring
        if not ring:
            return full
        # A ring that is full holds nothing but what may be seen, in whatever order.
        within = self._seen(positions, min(length, ring))
        return {"full_attention": full, "sliding_attention": within} if self.slots.mixed else within

    def _seen(self, positions: torch.Tensor, length: int) -> torch.Tensor:
        seen = torch.arange(length, device=self.device) <= positions[:, None, :, None]
        hidden = torch.finfo(self.dtype).min
        return torch.where(seen, 0.0, hidden).to(self.dtype)
