"""Muon for the matrices inside the layers, AdamW for embeddings and norms.

Muon (K. Jordan and others, 2024) steps along the orthogonal matrix nearest to the momentum, so that
every direction of a matrix learns at one speed. It costs a tenth more a step than AdamW and needs far
fewer steps.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from tools.demo_model.network import EMBEDDING, Weights
from tools.demo_model.processor import has_bf16

QUINTICS = (
    (8.205160414, -22.901934987, 16.460724910),
    (4.066395160, -2.861154087, 0.518399523),
    (3.909594904, -2.823351735, 0.525036977),
    (3.318419657, -2.488488024, 0.510049410),
)
"""Coefficients of x, x^3 and x^5 of each iteration (Polar Express; Amsel and others, 2025; all but the last with
their factor of safety, 1.01). Four leave singular values up to 1.6, where five of one polynomial for all leave 1.2, and
take four fifths of the time.
"""


def orthogonalized(matrices: torch.Tensor, *, low: bool = False) -> torch.Tensor:
    """The nearest orthogonal matrix of each of `matrices` (count, rows, columns), about, by Newton and Schulz.

    low: in bfloat16.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    # What it is after is far coarser than bfloat16; the authors' own runs in it too.
    x = x.to(torch.bfloat16) if low else x
    for a, b, c in QUINTICS:
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if tall else x).to(matrices.dtype)


class Optimizer:
    """Steps over a dictionary of weights, in place. Its state is tensors only, to be saved beside the weights."""

    def __init__(
        self, weights: Weights, *, matrix_rate: float, rate: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        """Rates are the highest ones; `step` takes the schedule's factor. Decay is AdamW's, for matrices only."""
        self._low = has_bf16()
        self._matrix_rate, self._rate, self._momentum, self._decay = matrix_rate, rate, momentum, decay
        matrices = [name for name, weight in weights.items() if weight.ndim == 2 and name != EMBEDDING]
        self._weights = weights
        # Matrices of one form are iterated together: one large product in place of many small.
        self._groups: dict[tuple[int, int], list[str]] = {}
        for name in matrices if matrix_rate else ():
            rows, columns = weights[name].shape
            self._groups.setdefault((rows, columns), []).append(name)
        self._velocity = {form: torch.zeros(len(names), *form) for form, names in self._groups.items()}
        others = [weight for name, weight in weights.items() if not (matrix_rate and name in matrices)]
        self._adam = torch.optim.AdamW(
            [
                {"params": [weight for weight in others if weight.ndim == 2], "weight_decay": decay},
                {"params": [weight for weight in others if weight.ndim == 1], "weight_decay": 0.0},
            ],
            lr=rate,
            betas=(0.9, 0.95),
            foreach=True,
        )

    def step(self, factor: float) -> None:
        """One step with the gradients that the weights hold, which are then dropped."""
        with torch.no_grad():
            for form, names in self._groups.items():
                self._muon(form, [self._weights[name] for name in names], self._matrix_rate * factor)
        for group in self._adam.param_groups:
            group["lr"] = self._rate * factor
        self._adam.step()
        for weight in self._weights.values():
            weight.grad = None

    def _muon(self, form: tuple[int, int], weights: list[torch.Tensor], rate: float) -> None:
        gradients = torch.stack([weight.grad for weight in weights])
        velocity = self._velocity[form]
        velocity.lerp_(gradients, 1 - self._momentum)
        steps = orthogonalized(gradients.lerp_(velocity, self._momentum), low=self._low)
        scale = rate * math.sqrt(max(1.0, form[0] / form[1]))
        for weight, step in zip(weights, steps, strict=True):
            weight.mul_(1 - rate * self._decay).sub_(step, alpha=scale)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"velocity": self._velocity, "adam": self._adam.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`, of the same weights' names and forms."""
        self._velocity = state["velocity"]
        self._adam.load_state_dict(state["adam"])
