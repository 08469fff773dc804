"""From settings to the samplers that really act, in their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from uml.sampling import foreign_step, penalties, shape, truncation
from uml.sampling.bans import Breakers
from uml.sampling.history import Counts, History
from uml.sampling.order import REPLACED_BY_MIROSTAT
from uml.sampling.row import Candidates
from uml.sampling.settings import Settings
from uml.sampling.vocabulary import Vocabulary

Step = Callable[[Candidates], None]

CUTOFF_UNIT: Final = 1e-4
"""Of `epsilon_cutoff` and `eta_cutoff`, as in text-generation-webui."""
KEEPS_LIKELIEST: Final = frozenset(
    {
        *("top_n_sigma", "top_k", "epsilon_cutoff", "eta_cutoff", "tfs", "top_a", "top_h", "top_p", "min_p"),
        "temperature",
    }
)


@dataclass(frozen=True, slots=True)
class Tools:
    """What samplers need beside their parameters.

    counts: of the window of the penalties. uniform: the next random number from [0, 1).
    """

    vocabulary: Vocabulary
    history: History
    counts: Counts
    uniform: Callable[[], float]


def steps(settings: Settings, tools: Tools) -> list[Step]:
    """The samplers that act, first to last; those that cannot change the token are left out.

    Raises BadRequest for a setting that a plug-in's sampler refuses.
    """
    active: list[tuple[str, Step]] = []
    wishes = {wish.sampler.name: wish for wish in settings.foreign}
    truncations = _truncations(settings, tools)
    for name in settings.order:
        if name in wishes:
            active.append((name, foreign_step.step(wishes[name], tools.vocabulary, tools.history, tools.uniform)))
            continue
        step = _looking_back(name, settings, tools) or _shape(name, settings) or truncations.get(name)
        if step is not None and not (settings.mirostat_mode and name in REPLACED_BY_MIROSTAT):
            active.append((name, step))
    if settings.greedy and not settings.post_sampling_probs:
        # The likeliest token survives them, so that after them it would be the same.
        while active and active[-1][0] in KEEPS_LIKELIEST:
            del active[-1]
    return [step for _, step in active]


def _looking_back(name: str, settings: Settings, tools: Tools) -> Step | None:
    history = tools.history
    if name == "encoder_repetition_penalty" and settings.encoder_repetition_penalty != 1:
        prompt = np.unique(history.last(-1)[: history.prompt])
        return lambda row: penalties.repetition_penalty(row, prompt, 1 / settings.encoder_repetition_penalty)
    if name == "no_repeat_ngram" and settings.no_repeat_ngram_size:
        return lambda row: penalties.no_repeat_ngram(row, history.last(-1), settings.no_repeat_ngram_size)
    if name == "dry":
        return _dry(settings, tools)
    if not settings.repetition_penalty_range:
        return None
    if name == "repetition_penalty" and settings.repetition_penalty != 1:
        return lambda row: penalties.repetition_penalty(row, tools.counts.now()[0], settings.repetition_penalty)
    if name == "presence_penalty" and settings.presence_penalty:
        return lambda row: penalties.presence_penalty(row, tools.counts.now()[0], settings.presence_penalty)
    if name == "frequency_penalty" and settings.frequency_penalty:
        return lambda row: penalties.frequency_penalty(row, *tools.counts.now(), settings.frequency_penalty)
    return None


def _dry(settings: Settings, tools: Tools) -> Step | None:
    window = settings.dry_penalty_last_n
    if not settings.dry_multiplier or not window:
        return None
    history, breakers = tools.history, Breakers(settings.dry_sequence_breakers, tools.vocabulary, tools.history)

    def step(row: Candidates) -> None:
        penalties.dry(
            row,
            history.last(window),
            breakers.last(window),
            multiplier=settings.dry_multiplier,
            base=settings.dry_base,
            allowed=settings.dry_allowed_length,
            breaker=breakers.alone,
        )

    return step


def _truncations(settings: Settings, tools: Tools) -> dict[str, Step]:
    """Those that act, by name."""
    s, keep = settings, settings.min_keep
    ways: dict[str, tuple[bool, Step]] = {
        "top_n_sigma": (s.top_n_sigma > 0, lambda row: truncation.top_n_sigma(row, s.top_n_sigma)),
        "top_k": (s.top_k > 0, lambda row: truncation.top_k(row, s.top_k)),
        "typical_p": (s.typical_p < 1, lambda row: truncation.typical_p(row, s.typical_p, keep)),
        "epsilon_cutoff": (
            s.epsilon_cutoff > 0,
            lambda row: truncation.epsilon_cutoff(row, s.epsilon_cutoff * CUTOFF_UNIT, keep),
        ),
        "eta_cutoff": (s.eta_cutoff > 0, lambda row: truncation.eta_cutoff(row, s.eta_cutoff * CUTOFF_UNIT, keep)),
        "tfs": (s.tfs < 1, lambda row: truncation.tfs(row, s.tfs, keep)),
        "top_a": (s.top_a > 0, lambda row: truncation.top_a(row, s.top_a, keep)),
        "top_h": (s.top_h > 0, lambda row: truncation.top_h(row, s.top_h, keep)),
        "top_p": (s.top_p < 1, lambda row: truncation.top_p(row, s.top_p, keep)),
        "min_p": (s.min_p > 0, lambda row: truncation.min_p(row, s.min_p, keep)),
        "xtc": (
            s.xtc_probability > 0,
            lambda row: truncation.xtc(row, s.xtc_threshold, s.xtc_probability, keep, tools.uniform()),
        ),
    }
    return {name: step for name, (acts, step) in ways.items() if acts}


def _shape(name: str, settings: Settings) -> Step | None:
    if name == "quadratic_sampling" and settings.smoothing_factor:
        return lambda row: shape.quadratic_sampling(row, settings.smoothing_factor, settings.smoothing_curve)
    low, high = settings.temperatures
    if name == "temperature" and (low, high) != (1, 1):
        return lambda row: shape.temperature(row, low, high, settings.dynatemp_exponent)
    return None
