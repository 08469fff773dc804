"""A sampler: texts without certain letters. Workers of other engines load this file alone, by its path.

So it imports numpy and what Python brings, and nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from uml.sampling.foreign import About


def sampler(setting: Any, about: About) -> Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]:
    """Called once for each answer. setting: what the request says; a ValueError is a 400 with its words."""
    if not isinstance(setting, str) or not setting.isascii() or not setting.isalpha():
        raise ValueError(f"{setting!r} is no text of letters from a to z; expected something like 'e'")
    unwanted = {letter.encode() for both in (setting.lower(), setting.upper()) for letter in both}
    banned = [token for token, piece in enumerate(about.pieces) if any(letter in piece for letter in unwanted)]
    # A token that ends the answer stands for no text, whatever it is called.
    places = np.array(sorted(set(banned) - about.ends), dtype=np.int64)

    def step(logits: NDArray[np.float32], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Called for each token: one logit for each of the vocabulary; tokens are those of prompt and answer so far."""
        logits[places] = -np.inf
        return logits

    return step
