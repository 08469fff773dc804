"""What the stand-ins' model thinks of every token, where it does not say words again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE, TOKENS = 1000, 990
"""How many tokens the model scores, and how many of them there are."""


def scores(place: int) -> NDArray[np.float32]:
    """At this place of an answer, whatever came before: a few tokens are likely, and none very.

    What is no token is likelier than all.
    """
    row = np.random.default_rng(place).normal(0, 3, SIZE).astype(np.float32)
    row[TOKENS:] = 30
    return row
