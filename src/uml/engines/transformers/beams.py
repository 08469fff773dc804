"""Beam search: several answers followed side by side, of which the likeliest is given, by the library's own loop.

What a beam will be is known at its end only: a stream tells it in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from uml.engines.transformers.spec import BEAMS
from uml.sampling.settings import DIALECT, Settings

_HONOURED: Final = ("repetition_penalty", "no_repeat_ngram_size", "min_tokens", "encoder_repetition_penalty", "seed")
"""Parameters of samplers that the library's search has, too. A seed has nothing to do, and changes nothing."""


@dataclass(frozen=True, slots=True)
class Beams:
    """A search. count: of beams. length_penalty: above 0 favours long answers, below 0 short ones.

    early: whether it ends as soon as so many answers are complete; `never`: only when none can become better.
    """

    count: int
    length_penalty: float
    early: bool | Literal["never"]
    settings: Settings

    @property
    def generation(self) -> dict[str, Any]:
        """For the library's `GenerationConfig`."""
        settings = self.settings
        asked = {
            "repetition_penalty": settings.repetition_penalty,
            "encoder_repetition_penalty": settings.encoder_repetition_penalty,
            "no_repeat_ngram_size": settings.no_repeat_ngram_size,
            "min_new_tokens": settings.min_tokens or None,
        }
        neutral = (None, 0, 1.0)
        return {
            "num_beams": self.count,
            "length_penalty": self.length_penalty,
            "early_stopping": self.early,
            **{name: value for name, value in asked.items() if value not in neutral},
        }


def of(request: Mapping[str, Any], settings: Settings) -> Beams | None:
    """The search that a request asks for; None for one that asks for none. settings: of its samplers."""
    count = int(request.get("num_beams") or 1)
    penalty, early = request.get("length_penalty"), request.get("early_stopping")
    return Beams(count, 1.0 if penalty is None else float(penalty), early or False, settings) if count > 1 else None


def told(request: Mapping[str, Any], settings: Settings, beams: Beams | None) -> Settings:
    """The settings, with a notice for everything that was asked for and has no effect with beams, or without."""
    notices: list[Mapping[str, str]] = list(settings.notices)
    if beams is None:
        notices += [
            {"param": name, "reason": "it shapes a search by beams; num_beams is not above 1"}
            for name in BEAMS[1:]
            if request.get(name) is not None
        ]
    else:
        plain = Settings()
        notices += [
            {"param": name, "reason": "num_beams searches by the model's own scores, and draws nothing"}
            for name in DIALECT
            if name not in _HONOURED and _asks(name, request.get(name), plain)
        ]
        if (request.get("n") or 1) > 1:
            notices.append({"param": "n", "reason": "num_beams draws nothing, so that all answers are the same"})
    return replace(settings, notices=tuple(notices)) if len(notices) > len(settings.notices) else settings


def _asks(name: str, value: Any, plain: Settings) -> bool:
    """Whether a value asks for something: greedy choice is what beams do anyway."""
    if value is None or value is False or (name == "temperature" and not value):
        return False
    return bool(value != getattr(plain, name, None)) if name != "temperature" else True
