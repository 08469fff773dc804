"""Which requests ExLlamaV3's own sampling steps honour as our chain does: those stay on the GPU to the end.

What each step does was read from exllamav3 1.6.5 (`generator/sampler/custom.py` and the kernels of its extension): they
act in whatever order they are given, and those that are named here have the meaning that the samplers of the same names
have in `uml.sampling`, but for which of several equal logits is the last that is kept. What the others mean differs:
XTC spares line feeds and special tokens, DRY has other breakers. For these, and for what the library lacks, there is
the chain.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields
from typing import Any, Final

from uml.sampling.settings import Settings

WHOLE: Final = 10**7
"""`sustain_range` for the whole context: the library's default."""
COOLEST: Final = 0.2
"""Below this temperature the powers of probabilities, as which the library reckons, may be too small for a float."""
_PENALTIES: Final = ("repetition_penalty", "presence_penalty", "frequency_penalty")
_SAMPLERS: Final = frozenset({*_PENALTIES, "repetition_penalty_range", "temperature", "top_k", "top_p", "min_p"})
_ELSEWHERE: Final = frozenset(
    {
        *("do_sample", "temperature_last", "order", "notices", "seed"),
        *("logit_bias", "ignore_eos", "min_tokens", "banned_strings"),
    }
)
"""What is seen in other ways: in the order, in the first step, or by the job."""

Step = tuple[str, tuple[Any, ...]]
"""The name of a class of the library, and what it is made with."""


def steps_of(settings: Settings, ends: Collection[int], *, guided: bool) -> list[Step] | None:
    """The library's steps that do what the request asks for, first to last; None where the chain is to do it.

    ends: tokens that end an answer. guided: whether a structure says what may come.
    """
    if not _plain(settings) or any(isinstance(token, str) for token, _ in settings.logit_bias):
        return None
    if guided and (settings.ignore_eos or settings.min_tokens):
        return None  # bans yield where a structure lets nothing but an end come; the library's do not
    found = _first(settings, ends)
    likeliest = settings.greedy or (settings.top_k == 1 and "top_k" in settings.order)
    truncated = False
    for name in settings.order:
        step = _penalty(name, settings) if name in _PENALTIES else _truncation(name, settings)
        if step is None:
            continue
        if name in _PENALTIES and truncated:
            return None  # the library's take logits of all tokens, and nothing else
        truncated = truncated or name not in _PENALTIES
        # Of the others none changes which token is the likeliest.
        if name in _PENALTIES or not likeliest:
            found.append(step)
    if not likeliest and "temperature" in settings.order and settings.temperature < COOLEST:
        return None
    return [*found, ("SS_Argmax" if likeliest else "SS_Sample", ())]


def _plain(settings: Settings) -> bool:
    """Whether nothing is asked for but what the steps here do."""
    others = (field for field in fields(Settings) if field.name not in _SAMPLERS | _ELSEWHERE)
    return all(getattr(settings, field.name) == field.default for field in others)


def _first(settings: Settings, ends: Collection[int]) -> list[Step]:
    """Biases, and the ban of ends."""
    amounts: dict[int, float] = dict.fromkeys(sorted(ends), -math.inf) if settings.ignore_eos else {}
    for token, amount in settings.logit_bias:
        assert isinstance(token, int)
        amounts[token] = amounts.get(token, 0.0) + amount
    return [("SS_LogitBias", (amounts,))] if amounts else []


def _penalty(name: str, settings: Settings) -> Step | None:
    window = settings.repetition_penalty_range
    reach = WHOLE if window < 0 else window
    if not reach:
        return None
    if name == "repetition_penalty":
        found = settings.repetition_penalty
        return None if found == 1 else ("SS_RepP", (found, reach, 0))
    presence = settings.presence_penalty if name == "presence_penalty" else 0.0
    frequency = settings.frequency_penalty if name == "frequency_penalty" else 0.0
    return ("SS_PresFreqP", (presence, frequency, reach, 0)) if presence or frequency else None


def _truncation(name: str, settings: Settings) -> Step | None:
    found = {
        "top_k": (settings.top_k > 0, "SS_TopK", settings.top_k),
        "top_p": (settings.top_p < 1, "SS_TopP", settings.top_p),
        "min_p": (settings.min_p > 0, "SS_MinP", settings.min_p),
        "temperature": (settings.temperature != 1, "SS_Temperature", settings.temperature),
    }.get(name)
    return (found[1], (found[2],)) if found and found[0] else None
