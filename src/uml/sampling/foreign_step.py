"""A plug-in's sampler in a chain: it sees every token's logit, and what it gives back is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from uml.core.errors import BadRequest, EngineError
from uml.core.guard import LeftOut
from uml.sampling.foreign import ENTRY, PARAMETER, About, Foreign, ForeignStep, Wanted
from uml.sampling.history import History
from uml.sampling.row import Candidates
from uml.sampling.vocabulary import Vocabulary


def step(
    wish: Wanted, vocabulary: Vocabulary, history: History, uniform: Callable[[], float]
) -> Callable[[Candidates], None]:
    """The sampler of one answer. Raises BadRequest for a setting that it refuses (with ValueError), EngineError."""
    sampler = wish.sampler
    # A tuple is itself; of a list, a sampler that sorts it would take the tokens of all other answers along.
    about = About(tuple(vocabulary.pieces), vocabulary.ends, history.prompt, uniform)
    assert sampler.begin is not None  # one that is left out is not wished for
    try:
        act = sampler.guard.call(f"{ENTRY}()", sampler.begin, wish.setting, about)
    except LeftOut as error:
        if isinstance(error.__cause__, ValueError):
            param = f"{PARAMETER}.{sampler.name}"
            raise BadRequest(f"{param}: {error.__cause__}", param=param) from error
        raise _failed(sampler, str(error)) from error
    if not callable(act):
        raise _failed(sampler, f"{ENTRY}() gives {type(act).__name__}, expected a function")

    def apply(row: Candidates) -> None:
        _apply(row, sampler, act, history, len(vocabulary))

    return apply


def _apply(row: Candidates, sampler: Foreign, act: ForeignStep, history: History, size: int) -> None:
    """Let it see every token, and take over what it makes of those that may come."""
    places = slice(0, len(row)) if row.ids is None else row.ids
    logits = np.full(size, -np.inf, np.float32)
    logits[places] = row.logits
    there = logits > -np.inf
    try:
        made: Any = sampler.guard.call("its step", act, logits, history.last(-1).copy())
    except LeftOut as error:
        raise _failed(sampler, str(error)) from error
    if not isinstance(made, np.ndarray) or made.shape != (size,) or made.dtype.kind != "f":
        raise _failed(sampler, f"its step gives no row of {size} logits")
    # What cannot come stays so, whatever it says of it.
    kept = np.where(there, made, -np.inf).astype(np.float32)
    if not np.isfinite(kept.max()):
        raise _failed(sampler, "its step leaves no token, or gives a logit that is no number")
    row.replace(kept[places], ordered=False)


def _failed(sampler: Foreign, reason: str) -> EngineError:
    return EngineError("this model", f"the sampler {sampler.guard.name}: {reason}")
