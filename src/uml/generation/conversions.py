"""Values that an engine says differently, not only under another name.

Each conversion changes the values, which stand under our names, in place.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from uml.core.engine import EngineSpec
from uml.core.errors import BadRequest
from uml.generation.parameters import MAX_WINDOW
from uml.generation.schema import schema_of

BANNED: Final = -100.0
"""The least bias that OpenAI's interface has: a token with it does not come."""

Values = dict[str, Any]
Names = dict[str, str]


def _greedy(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    if "do_sample" in values and spec.dialect.get("do_sample") is None:
        values |= {} if values.pop("do_sample") else {"temperature": 0}


def _dynamic_temperature(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    """Lowest and highest become centre and range, where the engine does not know the former."""
    if spec.dialect.get("dynamic_temperature") is not None:
        return
    low, high = values.pop("dynatemp_low", 1), values.pop("dynatemp_high", 1)
    if values.pop("dynamic_temperature", False) and "dynatemp_range" not in values:
        if low > high:
            raise BadRequest(f"dynatemp_low {low:g} is above dynatemp_high {high:g}", param="dynatemp_low")
        values["temperature"], values["dynatemp_range"] = (low + high) / 2, (high - low) / 2


def _windows(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    for name in ("repetition_penalty_range", "dry_penalty_last_n"):
        if values.get(name) == -1:
            values[name] = min(context_length or MAX_WINDOW, MAX_WINDOW)


def _adaptive(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    # llama.cpp: off is negative, and 0 aims at the unlikeliest tokens.
    if values.get("adaptive_target") == 0:
        values["adaptive_target"] = -1.0


def _bans(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    bans = values.pop("custom_token_bans", None)
    if not bans:
        return
    try:
        banned = [int(token) for token in bans.split(",")]
        if min(banned) < 0:
            raise ValueError
    except ValueError:
        raise BadRequest("custom_token_bans: expected token ids with commas", param="custom_token_bans") from None
    bias = values.get("logit_bias") or {}
    if spec.dialect.get("custom_token_bans") == "logit_bias":  # an object is all that this engine takes
        given.setdefault("logit_bias", "custom_token_bans")
        values["logit_bias"] = {**dict(bias), **{str(token): BANNED for token in banned}}
        return
    pairs = (
        [[int(key) if key.isdigit() else key, amount] for key, amount in bias.items()]
        if type(bias) is dict
        else list(bias)
    )
    given.setdefault("logit_bias", "custom_token_bans")
    values["logit_bias"] = [*pairs, *([token, False] for token in banned)]


def _schema(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    """A schema as a format of the answer, for engines that know it by that name only."""
    if "json_schema" in values and spec.dialect.get("json_schema") == "response_format":
        given.setdefault("response_format", given.get("json_schema", "json_schema"))
        named = {"name": "answer", "schema": values.pop("json_schema")}
        values["response_format"] = {"type": "json_schema", "json_schema": named}


def _format_of_text(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    """The format of a completion as a schema: llama.cpp heeds it in chats only, and says nothing of it elsewhere."""
    format_ = values.get("response_format")
    if "prompt" not in values or type(format_) is not dict or values.get("json_schema") is not None:
        return
    if spec.dialect.get("json_schema", "json_schema") != "json_schema":
        return
    del values["response_format"]
    if format_.get("type") in ("json_object", "json_schema"):
        schema = schema_of({"response_format": format_})
        given.setdefault("json_schema", given.get("response_format", "response_format"))
        values["json_schema"] = {"type": "object"} if schema is None else schema


def _one_tool(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    """A function that must be called: the only one there is, and one must be called.

    llama.cpp takes any object for `auto`, without a word.
    """
    choice = values.get("tool_choice")
    if type(choice) is dict:
        name = choice["function"]["name"]
        values["tools"] = [tool for tool in values["tools"] if tool["function"]["name"] == name]
        values["tool_choice"] = "required"


def _choices(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    """A choice becomes a grammar, where the engine has only these."""
    texts = values.get("choice")
    if texts is None or spec.dialect.get("choice") is not None or spec.dialect.get("grammar") is None:
        return
    free = (None, "", {"type": "text"})
    other = next((name for name in ("grammar", "json_schema", "response_format") if values.get(name) not in free), None)
    if other is not None:
        raise BadRequest(f"{given[other]} and {given['choice']} exclude each other; give one", param=given["choice"])
    given["grammar"] = given["choice"]
    del values["choice"]
    values["grammar"] = "root ::= " + " | ".join(map(_literal, [texts] if type(texts) is str else texts))


def _literal(text: str) -> str:
    """A text in GBNF (llama.cpp, `grammars/README.md`)."""
    written = "".join(f"\\x{ord(c):02x}" if ord(c) < 0x20 else f"\\{c}" if c in '"\\' else c for c in text)
    return f'"{written}"'


def _probabilities(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    """Engines tell none, or twenty, where the number of alternatives is 0 or left out: one is asked for."""
    if spec.dialect.get("logprobs", "") is None:
        return
    if values.get("logprobs") is True:
        values["top_logprobs"] = values.get("top_logprobs") or 1
    elif values.get("logprobs") == 0 and values["logprobs"] is not False:
        values["logprobs"] = 1


def _breakers(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    """A list, also where it comes as one text: JSON, or a comma between quoted texts."""
    breakers = values.get("dry_sequence_breakers")
    if type(breakers) is not str:
        return
    parsed = [breakers]
    if breakers.lstrip()[:1] in ("[", '"'):
        with contextlib.suppress(ValueError):
            parsed = json.loads(breakers if breakers.lstrip().startswith("[") else f"[{breakers}]")
    if not all(type(item) is str for item in parsed):
        raise BadRequest("dry_sequence_breakers: expected a list of texts", param="dry_sequence_breakers")
    values["dry_sequence_breakers"] = parsed


def _thinking(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    if "enable_thinking" in values and spec.dialect.get("chat_template_kwargs", "") is not None:
        thinking = values.pop("enable_thinking")
        values["chat_template_kwargs"] = {"enable_thinking": thinking, **values.get("chat_template_kwargs", {})}


_LLAMACPP_SAMPLERS: Final[Mapping[str, str]] = {
    "repetition_penalty": "penalties",
    "presence_penalty": "penalties",
    "frequency_penalty": "penalties",
    "penalties": "penalties",
    "dry": "dry",
    "top_n_sigma": "top_n_sigma",
    "top_k": "top_k",
    "typical_p": "typ_p",
    "typ_p": "typ_p",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc": "xtc",
    "temperature": "temperature",
    "dynamic_temperature": "temperature",
    "adaptive_p": "adaptive_p",
    "infill": "infill",
}


_LLAMACPP_DEFAULT: Final = (
    *("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"),
)
"""The order of b11549, where a request gives none."""


def _order(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    """The order of samplers; llama.cpp drops a name that it does not know without a word, so we refuse it."""
    order = values.get("sampler_priority")
    if spec.dialect.get("sampler_priority") != "samplers":
        return
    # It acts only where the order names it.
    adaptive = ["adaptive_p"] if values.get("adaptive_target", -1) > 0 else []
    if order is None:
        if adaptive:
            values["sampler_priority"] = [*_LLAMACPP_DEFAULT, *adaptive]
        return
    names = order.split() if type(order) is str else order
    unknown = next((name for name in names if name not in _LLAMACPP_SAMPLERS), None)
    if unknown is not None:
        known = ", ".join(dict.fromkeys(_LLAMACPP_SAMPLERS))
        raise BadRequest(
            f"sampler_priority: {spec.name} has no sampler {unknown}; known are {known}",
            param=given["sampler_priority"],
        )
    named = [_LLAMACPP_SAMPLERS[name] for name in names]
    values["sampler_priority"] = list(dict.fromkeys([*(name for name in named if name not in adaptive), *adaptive]))


CONVERSIONS: Final[tuple[Callable[[Values, Names, EngineSpec, int], None], ...]] = (
    _greedy,
    _dynamic_temperature,
    _windows,
    _adaptive,
    _bans,
    _format_of_text,
    _schema,
    _one_tool,
    _choices,
    _probabilities,
    _breakers,
    _thinking,
    _order,
)

CONVERTED: Final = frozenset(
    {
        "strict",
        "do_sample",
        "dynamic_temperature",
        "dynatemp_low",
        "dynatemp_high",
        "repetition_penalty_range",
        "dry_penalty_last_n",
        "adaptive_target",
        "custom_token_bans",
        "dry_sequence_breakers",
        "enable_thinking",
        "sampler_priority",
        "tool_choice",
        "logprobs",
        "logit_bias",
        "response_format",
    }
)
"""Parameters that a conversion may touch: with one of these the body is written anew."""
