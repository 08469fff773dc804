"""Samplers that look back: what was there before gets likelier or less likely.

They see prompt and answer alike, as in llama.cpp, but for `encoder_repetition_penalty`, which sees the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from uml.sampling.history import Tokens
from uml.sampling.row import Candidates

Breaks = NDArray[np.bool_]


def repetition_penalty(row: Candidates, tokens: Tokens, penalty: float) -> None:
    """Divide what is above 0 and multiply what is below: Keskar et al. 2019, arXiv 1909.05858, mended."""
    places, _ = row.places(tokens)
    if len(places):
        logits = row.change()
        old = logits[places]
        factor = np.float32(penalty)
        logits[places] = np.where(old <= 0, old * factor, old / factor)


def presence_penalty(row: Candidates, tokens: Tokens, penalty: float) -> None:
    """Take it once from what was there: OpenAI, "presence and frequency penalties"."""
    places, _ = row.places(tokens)
    if len(places):
        row.change()[places] -= np.float32(penalty)


def frequency_penalty(row: Candidates, tokens: Tokens, numbers: NDArray[np.int64], penalty: float) -> None:
    """Take it for every time that it was there: OpenAI, "presence and frequency penalties"."""
    places, there = row.places(tokens)
    if len(places):
        row.change()[places] -= (numbers[there] * penalty).astype(np.float32)


def no_repeat_ngram(row: Candidates, history: Tokens, size: int) -> None:
    """Ban what would end a run of so many tokens that was there: Transformers, `NoRepeatNGramLogitsProcessor`."""
    starts = len(history) - size + 1
    if starts < 1:
        return
    same = np.ones(starts, bool)
    for offset in range(size - 1):
        # The run that is being written has its first tokens at the very end of the history.
        same &= history[offset : offset + starts] == history[starts + offset]
        if not same.any():
            return
    ban(row, np.unique(history[size - 1 :][same]))


def ban(row: Candidates, tokens: Tokens) -> None:
    """No probability for these."""
    places, _ = row.places(tokens)
    if len(places):
        row.change()[places] = -np.inf


def dry(
    row: Candidates,
    history: Tokens,
    breaks: Breaks,
    *,
    multiplier: float,
    base: float,
    allowed: int,
    breaker: Callable[[int], bool],
) -> None:
    """Less likely is what would go on with a repetition: multiplier x base^(length - allowed).

    "Don't repeat yourself" by p-e-w (text-generation-webui, pull request 5677); lengths and limits are those of
    llama.cpp's `llama_sampler_dry_apply`.

    history: the window that it looks back on. breaks: which of its tokens end a sequence breaker; no repetition
    reaches across one. breaker: token -> whether it is one by itself, and so never penalised.
    """
    size = len(history)
    if size <= allowed:
        return
    ends = np.flatnonzero(breaks)
    most = size - 1 - int(ends[-1]) if len(ends) else size
    if most < allowed:
        return
    highest = int(88.7228391 / math.log(base)) if base > 1.000001 else 0
    # A longer match than this gets no higher penalty.
    enough = min(most, allowed + highest) if highest else min(most, max(allowed, 1))
    longest = {token: length for token, length in _repetitions(history, enough, allowed).items() if not breaker(token)}
    places, there = row.places(np.fromiter(longest, np.int64, len(longest)))
    if len(places):
        lengths = np.fromiter(longest.values(), np.int64, len(longest))[there]
        row.change()[places] -= (multiplier * float(base) ** (lengths - allowed)).astype(np.float32)


def _repetitions(history: Tokens, most: int, allowed: int) -> dict[int, int]:
    """What followed earlier places that end as the history does, and the longest such end for each."""
    last = len(history) - 1
    # Every place ends as the history does in its last 0 tokens.
    found: dict[int, int] = dict.fromkeys(history[1:].tolist(), 0) if allowed == 0 else {}
    live = np.flatnonzero(history[:last] == history[last])
    length = 0
    while len(live) and length < most:
        length += 1
        if length >= allowed:
            found.update(dict.fromkeys(history[live + 1].tolist(), length))
        live = live[live >= length]
        live = live[history[live - length] == history[last - length]]
    return found
