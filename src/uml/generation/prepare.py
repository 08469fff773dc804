"""check() and prepare(): a request's body as the engine wants it, and what it cannot do.

Most requests need no change, and their bytes go to the worker as they came: for those this is one
look-up and one check a field.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from uml.core.engine import EngineSpec
from uml.core.errors import BadRequest, UnsupportedParameter
from uml.generation.parameters import MAX_WINDOW, PARAMETERS, Endpoint, Parameter

Notice = dict[str, str]


@dataclass(frozen=True, slots=True)
class Checked:
    """A request with every value of its type and in its range, whatever the engine.

    plain: nothing in it needs another name or another value, unless the engine has a dialect for it.
    choices: answers that it makes, over all its prompts.
    """

    endpoint: Endpoint
    body: Mapping[str, Any]
    plain: bool
    stream: bool = False
    choices: int = 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request for one engine.

    body: what goes to the worker; None when it is what the client sent, byte for byte.
    warnings: `{"param", "reason"}` for everything that was left out.
    """

    body: dict[str, Any] | None
    warnings: tuple[Notice, ...] = ()


def check(endpoint: Endpoint, body: Mapping[str, Any]) -> Checked:
    """Check types, ranges and shape, before any model is loaded for it. Raises BadRequest with the field's path."""
    known = _by_name(endpoint)
    plain = True
    for name, value in body.items():
        parameter = known.get(name)
        if parameter is None:
            plain = False
        elif value is not None:
            if not parameter.accepts(value):
                raise BadRequest(f"{name} is {_shown(value)}; expected {parameter.expected}", param=name)
            if name != parameter.name or name in _CONVERTED or parameter.rare:
                plain = False
    _check_shape(endpoint, body)
    return Checked(endpoint, body, plain, body.get("stream") is True, _choices(endpoint, body))


def prepare(checked: Checked, spec: EngineSpec, context_length: int = 0) -> Prepared:
    """Say a request in the words of this engine.

    context_length: of the loaded model, for values that mean "all of it"; 0 where it is not known.
    Raises UnsupportedParameter when the body says `strict`, or BadRequest for values that only this
    engine refuses.
    """
    body, dialect = checked.body, spec.dialect
    if checked.plain and all(dialect.get(name, name) == name for name in body):
        return Prepared(None)
    translated, warnings = _translate(body, _by_name(checked.endpoint), spec, context_length)
    if warnings and body.get("strict") is True:
        raise UnsupportedParameter(warnings[0]["param"], warnings[0]["reason"])
    return Prepared(translated, tuple(warnings))


@cache
def _by_name(endpoint: Endpoint) -> Mapping[str, Parameter]:
    return {
        name: parameter
        for parameter in PARAMETERS
        if endpoint in parameter.endpoints
        for name in (parameter.name, *parameter.aliases)
    }


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _choices(endpoint: Endpoint, body: Mapping[str, Any]) -> int:
    if endpoint == "embedding":
        return 1
    each = int(body.get("n") or body.get("n_cmpl") or body.get("num_return_sequences") or 1)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and any(type(item) is not int for item in prompt):
        return each * len(prompt)
    return each


def _check_shape(endpoint: Endpoint, body: Mapping[str, Any]) -> None:
    if endpoint == "chat":
        _check_messages(body.get("messages"))
        if body.get("top_logprobs") is not None and not body.get("logprobs"):
            raise BadRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    elif endpoint == "completion":
        if body.get("prompt") is None:
            raise BadRequest(
                "prompt is missing; expected a text, a list of texts or a list of token ids", param="prompt"
            )
    elif body.get("input") is None and body.get("content") is None:
        raise BadRequest("input is missing; expected a text or a list of texts", param="input")
    if body.get("grammar") and body.get("json_schema") is not None:
        raise BadRequest("grammar and json_schema exclude each other; give one", param="grammar")


def _check_messages(messages: Any) -> None:
    if type(messages) is not list or not messages:
        raise BadRequest("messages is missing or empty; expected a list of {role, content}", param="messages")
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if type(message) is not dict:
            raise BadRequest(f"{where} is {_shown(message)}; expected an object with role and content", param=where)
        if type(message.get("role")) is not str:
            raise BadRequest(
                f"{where}.role is missing or no text; expected system, user, assistant or tool", param=f"{where}.role"
            )
        content = message.get("content")
        if type(content) not in (str, list) and not (content is None and message["role"] == "assistant"):
            raise BadRequest(
                f"{where}.content is {_shown(content)}; expected a text or a list of parts", param=f"{where}.content"
            )
        if type(content) is list:
            _check_parts(content, f"{where}.content")


def _check_parts(parts: list[Any], where: str) -> None:
    for place, part in enumerate(parts):
        if type(part) is not dict or type(part.get("type")) is not str:
            raise BadRequest(
                f"{where}[{place}] is {_shown(part)}; expected an object with a type", param=f"{where}[{place}]"
            )


def _translate(
    body: Mapping[str, Any], known: Mapping[str, Parameter], spec: EngineSpec, context_length: int
) -> tuple[dict[str, Any], list[Notice]]:
    """The body under canonical names, converted, then under the engine's names."""
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    """Canonical name -> the name in the request, for messages."""
    warnings: list[Notice] = []
    for name, value in body.items():
        parameter = known.get(name)
        if parameter is None:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            warnings.append({"param": name, "reason": f"not known here, left out{hint}"})
        elif value is None or name == "strict":
            continue
        elif parameter.name in values and values[parameter.name] != value:
            raise BadRequest(f"{name} and {given[parameter.name]} are the same parameter and differ", param=name)
        else:
            values[parameter.name], given[parameter.name] = value, name
    for convert in _CONVERSIONS:
        convert(values, given, spec, context_length)
    said: dict[str, Any] = {}
    for name, value in values.items():
        target = spec.dialect.get(name, None if name in _RARE else name)
        if target is None:
            warnings.append({"param": given.get(name, name), "reason": f"the engine {spec.name} has no such parameter"})
        else:
            said[target] = value
    return said, warnings


# --- values that an engine says differently, not only under another name ---------------------

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
    except ValueError:
        raise BadRequest("custom_token_bans: expected token ids with commas", param="custom_token_bans") from None
    bias = values.get("logit_bias") or {}
    pairs = (
        [[int(key) if key.isdigit() else key, amount] for key, amount in bias.items()]
        if type(bias) is dict
        else list(bias)
    )
    given.setdefault("logit_bias", "custom_token_bans")
    values["logit_bias"] = [*pairs, *([token, False] for token in banned)]


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


def _order(values: Values, given: Names, spec: EngineSpec, context_length: int) -> None:
    """The order of samplers; llama.cpp drops a name that it does not know without a word, so we refuse it."""
    order = values.get("sampler_priority")
    if order is None or spec.dialect.get("sampler_priority") != "samplers":
        return
    names = order.split() if type(order) is str else order
    unknown = next((name for name in names if name not in _LLAMACPP_SAMPLERS), None)
    if unknown is not None:
        known = ", ".join(dict.fromkeys(_LLAMACPP_SAMPLERS))
        raise BadRequest(
            f"sampler_priority: {spec.name} has no sampler {unknown}; known are {known}",
            param=given["sampler_priority"],
        )
    values["sampler_priority"] = list(dict.fromkeys(_LLAMACPP_SAMPLERS[name] for name in names))


_CONVERSIONS: Final[tuple[Callable[[Values, Names, EngineSpec, int], None], ...]] = (
    _greedy,
    _dynamic_temperature,
    _windows,
    _adaptive,
    _bans,
    _breakers,
    _thinking,
    _order,
)

_RARE: Final = frozenset(parameter.name for parameter in PARAMETERS if parameter.rare)

_CONVERTED: Final = frozenset(
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
    }
)
"""Parameters that a conversion may touch: with one of these the body is written anew."""
