"""What a request asks of the samplers: every parameter, checked, with the value that it has when nobody gives one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from uml.core.errors import BadRequest
from uml.core.quote import quoted
from uml.sampling import order
from uml.sampling.foreign import PARAMETER as FOREIGN
from uml.sampling.foreign import Foreign, Wanted, wanted

MAX_WINDOW: Final = 1 << 20
"""Most tokens that penalties look back on."""

INTEGERS: Final[Mapping[str, tuple[int, int]]] = {
    "top_k": (-1, (1 << 31) - 1),
    "min_keep": (0, 1 << 20),
    "mirostat_mode": (0, 2),
    "repetition_penalty_range": (-1, MAX_WINDOW),
    "no_repeat_ngram_size": (0, 1 << 16),
    "dry_allowed_length": (0, MAX_WINDOW),
    "dry_penalty_last_n": (-1, MAX_WINDOW),
    "min_tokens": (0, (1 << 31) - 1),
    "seed": (-1, (1 << 32) - 1),
}
"""Parameters that are whole numbers, with their inclusive bounds."""

NUMBERS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 100),
    "dynatemp_low": (0, 100),
    "dynatemp_high": (0, 100),
    "dynatemp_range": (0, 100),
    "dynatemp_exponent": (0, 100),
    "smoothing_factor": (0, 100),
    "smoothing_curve": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "tfs": (0, 1),
    "top_a": (0, 1),
    "top_h": (0, 1),
    "top_n_sigma": (-1, 100),
    "epsilon_cutoff": (0, 10_000),
    "eta_cutoff": (0, 10_000),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "adaptive_target": (-1, 1),
    "adaptive_decay": (0, 0.99),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 1),
    "repetition_penalty": (0.01, 10),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "encoder_repetition_penalty": (0.01, 10),
    "dry_multiplier": (0, 100),
    "dry_base": (1, 100),
}
"""Parameters that are numbers, with their inclusive bounds."""

BOOLEANS: Final = ("do_sample", "dynamic_temperature", "temperature_last", "ignore_eos", "post_sampling_probs")
TEXTS: Final = ("dry_sequence_breakers", "banned_strings")
MOST_TEXTS: Final[Mapping[str, int]] = {"dry_sequence_breakers": 64, "banned_strings": 768}
"""Most texts of a list; of phrases, as many as KoboldCpp takes."""
MOST_BIASES: Final = 1 << 17

Bias = tuple[int | str, float]
"""A token, or a text all of whose tokens are meant, and what is added to its logit; minus infinity bans it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a request asks of the samplers. The names are those of `generation/parameters.py`, which says what each is.

    Defaults are llama.cpp's (b11549), so that a model answers alike on every engine.

    order: the samplers that act, first to last. Those whose parameters turn them off are still in it.
    logit_bias: in the order given, bans of single tokens included.
    seed: -1 for another one every time.
    alternatives: how many of the likeliest tokens are told at each place; None where not even the token's own
        probability is asked for.
    foreign: samplers of plug-ins that the request asks for; their names are in `order` too.
    notices: `{"param", "reason"}` for what was asked for and cannot have an effect.
    """

    do_sample: bool = True
    temperature: float = 0.8
    dynamic_temperature: bool = False
    dynatemp_low: float = 1.0
    dynatemp_high: float = 1.0
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    temperature_last: bool = False
    smoothing_factor: float = 0.0
    smoothing_curve: float = 1.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    tfs: float = 1.0
    top_a: float = 0.0
    top_h: float = 0.0
    top_n_sigma: float = 0.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    min_keep: int = 0
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9
    mirostat_mode: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    repetition_penalty: float = 1.0
    repetition_penalty_range: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    encoder_repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    logit_bias: tuple[Bias, ...] = ()
    banned_strings: tuple[str, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    seed: int = -1
    post_sampling_probs: bool = False
    order: tuple[str, ...] = order.DEFAULT
    alternatives: int | None = None
    foreign: tuple[Wanted, ...] = ()
    notices: tuple[Mapping[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        request: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
        samplers: Mapping[str, Foreign] | None = None,
    ) -> Settings:
        """The settings of a request; what it does not give is taken from `defaults`, then from the class.

        Names in both are ours; a name that is no sampler's is not looked at, and null is as if it were not there.
        samplers: of plug-ins, by name.
        Raises BadRequest with the parameter, what was read and what was expected.
        """
        merged = dict(defaults or ()) | {name: value for name, value in request.items() if value is not None}
        values: dict[str, Any] = {}
        for name in merged.keys() & _READERS.keys():
            values[name] = _READERS[name](name, merged[name])
        if request.get("do_sample") is None and request.get("temperature") is not None:
            values["do_sample"] = True  # whatever the defaults say: a temperature is asked for
        if not values.get("do_sample", True):
            values["temperature"] = 0.0
        known = samplers or {}
        values["foreign"] = wanted(merged[FOREIGN], known) if merged.get(FOREIGN) else ()
        values["order"] = _order(merged, values.get("temperature_last", False), values["foreign"], known)
        values["alternatives"] = _alternatives(merged)
        settings = cls(**values)
        if settings.dynamic_temperature and settings.dynatemp_low > settings.dynatemp_high:
            raise BadRequest(
                f"dynatemp_low {settings.dynatemp_low:g} is above dynatemp_high {settings.dynatemp_high:g}",
                param="dynatemp_low",
            )
        notices = tuple(_notices(settings, request))
        return cls(**values, notices=notices) if notices else settings

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken: a temperature of 0 that nothing makes dynamic."""
        low, high = self.temperatures
        return high <= 0 and low <= 0 and self.mirostat_mode == 0 and self.adaptive_target <= 0

    @property
    def temperatures(self) -> tuple[float, float]:
        """Lowest and highest temperature; equal where it is not dynamic."""
        if not self.do_sample:
            return 0.0, 0.0
        if self.dynatemp_range > 0:
            return max(0.0, self.temperature - self.dynatemp_range), self.temperature + self.dynatemp_range
        if self.dynamic_temperature:
            return self.dynatemp_low, self.dynatemp_high
        return self.temperature, self.temperature


def _integer(name: str, value: Any) -> int:
    low, high = INTEGERS[name]
    # Some clients write whole numbers as 5.0.
    whole = type(value) is int or (type(value) is float and value.is_integer())
    if not whole or not low <= value <= high:
        raise _refused(name, value, f"a whole number from {low} to {high}")
    return int(value)


def _number(name: str, value: Any) -> float:
    low, high = NUMBERS[name]
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        raise _refused(name, value, f"a number from {low:g} to {high:.10g}")
    return float(value)


def _boolean(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _refused(name, value, "true or false")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    items = [value] if type(value) is str else value
    most = MOST_TEXTS[name]
    if type(items) not in (list, tuple) or len(items) > most or any(type(item) is not str for item in items):
        raise _refused(name, value, f"a text or a list of texts, {most} at most")
    return tuple(dict.fromkeys(item for item in items if item))


def _biases(name: str, value: Any) -> tuple[Bias, ...]:
    """OpenAI's object of token ids, or llama.cpp's list of [token or text, number or false]."""
    expected = "an object of token ids with numbers, or a list of [token or text, number or false]"
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if type(pairs) not in (list, tuple) or len(pairs) > MOST_BIASES:
        raise _refused(name, value, f"{expected}, {MOST_BIASES} at most")
    biases: list[Bias] = []
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise _refused(name, pair, expected)
        token, amount = pair
        if type(token) is str and token.isascii() and token.isdigit():
            token = int(token[:20])
        if type(token) not in (int, str) or token == "" or (type(token) is int and token < 0):
            raise _refused(name, pair, expected)
        if amount is not False and (type(amount) not in (int, float) or not math.isfinite(amount)):
            raise _refused(name, pair, expected)
        biases.append((token, -math.inf if amount is False else float(amount)))
    return tuple(biases)


def _order(
    request: Mapping[str, Any], temperature_last: bool, foreign: Sequence[Wanted], samplers: Mapping[str, Foreign]
) -> tuple[str, ...]:
    """The selectors come last, named or not: llama.cpp does not look at the list for Mirostat either."""
    names = request.get("sampler_priority")
    if names is not None and type(names) not in (str, list, tuple):
        raise _refused("sampler_priority", names, "a list of samplers")
    if names is None and not foreign and not temperature_last:
        return order.DEFAULT  # its selectors are last
    if names is None:
        wanted_here = (wish.sampler.name for wish in foreign)
        names = (*order.DEFAULT[: order.PLACE], *wanted_here, *order.DEFAULT[order.PLACE :])
    first = [name for name in order.resolve(names, samplers) if name not in order.SELECTORS]
    if temperature_last and "temperature" in first:
        first = [name for name in first if name != "temperature"] + ["temperature"]
    return (*first, *order.SELECTORS)


def _alternatives(request: Mapping[str, Any]) -> int | None:
    """`logprobs` is true or false in chats, beside `top_logprobs`; a number in completions. llama.cpp: `n_probs`."""
    wanted = request.get("logprobs")
    counts = [request.get("n_probs") or 0, request.get("top_logprobs") or 0]
    if type(wanted) is int:
        counts.append(wanted)
    elif wanted is not None and type(wanted) is not bool:
        raise _refused("logprobs", wanted, "true, false or a whole number from 0 to 100")
    for name, count in zip(("n_probs", "top_logprobs", "logprobs"), counts, strict=False):
        if type(count) is not int or not 0 <= count <= 100:
            raise _refused(name, count, "a whole number from 0 to 100")
    asked = max(counts)
    return asked if asked or (wanted is not None and wanted is not False) else None


_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "temperature": (
        *("temperature", "dynamic_temperature", "dynatemp_low", "dynatemp_high"),
        *("dynatemp_range", "dynatemp_exponent"),
    ),
    "quadratic_sampling": ("smoothing_factor", "smoothing_curve"),
    "no_repeat_ngram": ("no_repeat_ngram_size",),
    "dry": ("dry_multiplier",),
    "xtc": ("xtc_probability",),
    "mirostat": ("mirostat_mode",),
    "adaptive_p": ("adaptive_target",),
}
"""Sampler -> the parameters that turn it on, where they are not of its own name."""


def _notices(settings: Settings, request: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """What the request itself asks for, and what another of its parameters takes the effect from."""
    if settings.order == order.DEFAULT and not settings.mirostat_mode and not settings.foreign:
        return []  # all act: most requests, before whose first token nobody should wait for the rest of this
    off = {field.name: field.default for field in fields(Settings)}
    notices: list[Mapping[str, str]] = []
    for sampler in order.DEFAULT:
        given = [name for name in _OF.get(sampler, (sampler,)) if request.get(name) not in (None, off[name])]
        if not given:
            continue
        if sampler == "adaptive_p" and settings.mirostat_mode and settings.adaptive_target > 0:
            notices.append({"param": given[0], "reason": "Mirostat chooses the token"})
        elif sampler not in settings.order:
            notices.append({"param": given[0], "reason": f"sampler_priority does not name {sampler}"})
        elif settings.mirostat_mode and sampler in order.REPLACED_BY_MIROSTAT:
            notices.append({"param": given[0], "reason": "Mirostat truncates by itself, in its place"})
    notices += [
        {"param": f"{FOREIGN}.{wish.sampler.name}", "reason": f"sampler_priority does not name {wish.sampler.name}"}
        for wish in settings.foreign
        if wish.sampler.name not in settings.order
    ]
    return notices


def _refused(name: str, value: object, expected: str) -> BadRequest:
    return BadRequest(f"{name} is {quoted(value)}; expected {expected}", param=name)


_READERS: Final = {
    **dict.fromkeys(INTEGERS, _integer),
    **dict.fromkeys(NUMBERS, _number),
    **dict.fromkeys(BOOLEANS, _boolean),
    **dict.fromkeys(TEXTS, _texts),
    "logit_bias": _biases,
}

DIALECT: Final[Mapping[str, str]] = {
    name: name for name in (*_READERS, "sampler_priority", FOREIGN, "logprobs", "top_logprobs", "n_probs")
}
"""For the dialect of an engine that samples with `chain.Chain`: every parameter that it then has."""

STRUCTURES: Final = ("grammar", "json_schema", "response_format", "regex", "choice")
"""Parameters that structure an answer; for the dialect of an engine that asks `grammar.Structures` what may come."""
