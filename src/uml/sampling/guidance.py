"""Classifier-free guidance: what a prompt makes likely, led away from what another text makes likely.

Sanchez and others, "Stay on topic with Classifier-Free Guidance", 2023 (arXiv:2306.17806): the difference of the two
logarithms of probability, `scale` times, on top of the other text's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from uml.sampling.row import Floats, log_total


@dataclass(frozen=True, slots=True)
class Guidance:
    """How an answer is guided.

    scale: above 1 leads away from what `tokens` make likely, below 1 towards it; 0 is them alone.
    tokens: what the model reads in the prompt's place; the answer's tokens follow both.
    """

    scale: float
    tokens: list[int]

    def of(self, led: Floats, free: Floats) -> Floats:
        """Scores `[vocabulary]` from those behind the prompt and those behind the other text."""
        there, here = free - np.float32(log_total(free)), led - np.float32(log_total(led))
        return there + np.float32(self.scale) * (here - there)


def scale_of(request: Mapping[str, Any]) -> float | None:
    """How strongly a request wants to be guided; None where nothing would come of it."""
    scale = request.get("guidance_scale")
    return None if scale is None or scale == 1 else float(scale)


def unguided(request: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    """Notices of what has no effect: a text to lead away from, and nothing that leads."""
    if not request.get("negative_prompt") or scale_of(request) is not None:
        return ()
    return ({"param": "negative_prompt", "reason": "guidance_scale is 1, so that nothing leads away from it"},)
