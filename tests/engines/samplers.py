"""For each parameter of samplers: a request that it changes, and what it is changed by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.engines.walk import COPY

OPEN: Final[Mapping[str, Any]] = {
    "prompt": "Once upon a time there was a dog. The dog was a good dog. The dog was",
    "temperature": 2,
    "top_k": 0,
    "top_p": 1,
    "min_p": 0,
    "seed": 3,
    "max_tokens": 16,
    "ignore_eos": True,
}
"""Nothing stands between the logits and chance: whatever acts then says something else."""


@dataclass(frozen=True)
class Case:
    """What a parameter is set to, and what else a request must have for it to matter."""

    value: Any
    beside: Mapping[str, Any] = field(default_factory=dict)


_MIROSTAT: Final = {"mirostat_mode": 2}
_ADAPTIVE: Final = {"adaptive_target": 0.3}
_DYNAMIC: Final = {"dynamic_temperature": True, "dynatemp_low": 0.5, "dynatemp_high": 3.0}
_DRY: Final = {"dry_multiplier": 5.0, "dry_sequence_breakers": ["!"], "dry_penalty_last_n": -1}

CASES: Final[Mapping[str, Case]] = {
    "temperature": Case(0.3),
    "top_k": Case(2),
    "top_p": Case(0.3),
    "min_p": Case(0.5),
    "top_a": Case(0.9),
    "typical_p": Case(0.1),
    "tfs": Case(0.1),
    "top_h": Case(0.1),
    "top_n_sigma": Case(0.5),
    "epsilon_cutoff": Case(1000),
    "eta_cutoff": Case(1000),
    "xtc_probability": Case(1.0, {"xtc_threshold": 0.02, "temperature": 1}),
    "xtc_threshold": Case(0.01, {"xtc_probability": 1.0, "temperature": 1}),
    "min_keep": Case(50, {"min_p": 0.9}),
    "dynamic_temperature": Case(True, {"dynatemp_low": 0.1, "dynatemp_high": 0.2}),
    "dynatemp_low": Case(2.9, _DYNAMIC),
    "dynatemp_high": Case(0.6, _DYNAMIC),
    "dynatemp_range": Case(1.9),
    "dynatemp_exponent": Case(20, {"dynatemp_range": 1.9}),
    "smoothing_factor": Case(5.0),
    "smoothing_curve": Case(9.0, {"smoothing_factor": 0.1}),
    "adaptive_target": Case(0.5),
    "adaptive_decay": Case(0.1, _ADAPTIVE),
    "mirostat_mode": Case(2),
    "mirostat_tau": Case(1.0, _MIROSTAT),
    "mirostat_eta": Case(1.0, _MIROSTAT),
    "repetition_penalty": Case(8.0),
    "repetition_penalty_range": Case(1, {"repetition_penalty": 8.0}),
    "presence_penalty": Case(2.0),
    "frequency_penalty": Case(2.0),
    "encoder_repetition_penalty": Case(8.0),
    "no_repeat_ngram_size": Case(1),
    "dry_multiplier": Case(9.0, {**_DRY, "dry_multiplier": 0.0}),
    "dry_base": Case(50.0, {**_DRY, **COPY, "temperature": 1, "dry_multiplier": 0.1, "dry_base": 1}),
    "dry_allowed_length": Case(40, _DRY),
    "dry_penalty_last_n": Case(0, _DRY),
    "dry_sequence_breakers": Case([" ", "dog", "."], _DRY),
    "penalty_alpha": Case(0.6, {"top_k": 4}),
    "guidance_scale": Case(5.0, {"negative_prompt": "A cat"}),
    "negative_prompt": Case("A cat", {"guidance_scale": 5.0}),
    "do_sample": Case(False),
    "sampler_priority": Case(["top_k"], {"top_k": 20, "min_p": 0.7}),
    "temperature_last": Case(True, {"sampler_priority": ["temperature", "top_p"], "top_p": 0.5}),
    "plugin_samplers": Case({"lipogram": "aeio"}),
    "logit_bias": Case({"300": 100}),
    "custom_token_bans": Case(",".join(map(str, range(40, 600)))),
}
