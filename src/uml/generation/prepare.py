"""check() and prepare(): a request's body as the engine wants it, and what it cannot do.

Most requests need no change, and their bytes go to the worker as they came: for those this is one
look-up and one check a field.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Final

from uml.core.engine import EngineSpec
from uml.core.errors import BadRequest, UnsupportedParameter
from uml.core.options import options_by_name
from uml.generation.adapters import check_loaded, name_of_one
from uml.generation.beginning import begun, has_empty
from uml.generation.calls import passed_over
from uml.generation.conversions import CONVERSIONS, CONVERTED
from uml.generation.parameter import Endpoint, Parameter
from uml.generation.parameters import PARAMETERS
from uml.generation.schema import lenient, schema_of, unfollowed, unheeded
from uml.generation.shapes import SHAPES, STREAM_OPTIONS, shown

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
                raise BadRequest(f"{name} is {shown(value)}; expected {parameter.expected}", param=name)
            inside = SHAPES.get(parameter.name)
            if inside is not None:
                inside(value, body)
            if name != parameter.name or name in CONVERTED or parameter.rare or parameter.ours:
                plain = False
    _check_whole(endpoint, body)
    return Checked(endpoint, body, plain, body.get("stream") is True, _choices(endpoint, body))


def prepare(
    checked: Checked,
    spec: EngineSpec,
    context_length: int = 0,
    vocabulary: int = 0,
    adapters: Sequence[float] | None = None,
    first: int | None = None,
) -> Prepared:
    """Say a request in the words of this engine.

    context_length: of the loaded model, for values that mean "all of it"; 0 where it is not known.
    vocabulary: how many tokens the model has; 0 where it is not known.
    adapters: the scale of each that the model was loaded with; None where the engine itself knows, and refuses others.
    first: the token that begins texts of this model; None where it has none, or where that is not known.
    Raises UnsupportedParameter when the body says `strict`, or BadRequest for values that only this
    engine refuses.
    """
    body, dialect = checked.body, spec.dialect
    wanted = body.get("lora") if "lora" in _by_name(checked.endpoint) else None
    if adapters is not None and wanted and dialect.get("lora", "lora") is not None:
        check_loaded(wanted, len(adapters))
    way = spec.schemas.get(checked.endpoint, "")
    plain = checked.plain and not (way and (body.get("json_schema") or body.get("response_format")))
    translated: dict[str, Any] | None = None
    warnings: list[Notice] = []
    chosen = name_of_one(wanted, adapters or (), spec.title) if spec.names_adapters else ""
    if chosen or not plain or not all(dialect.get(name, name) == name for name in body):
        translated, warnings = _translate(checked, way, spec, context_length, vocabulary)
    if chosen and translated is not None:
        translated["model"] = chosen
    if checked.endpoint == "completion" and spec.mute and has_empty(body.get("prompt", "-")):
        if first is None:
            warnings.append({"param": "prompt", "reason": _NOTHING})
        else:
            translated = {**(body if translated is None else translated), "prompt": begun(body["prompt"], first)}
    if checked.endpoint == "chat":
        warnings += _details(body)
        warnings += _loose_calls(body, spec, way) if way else ()
    if type(asked := body.get("stream_options")) is dict:
        strange = [name for name in asked if name not in STREAM_OPTIONS]
        warnings += [{"param": f"stream_options.{name[:100]}", "reason": "not known here"} for name in strange[:_HINTS]]
    if warnings and body.get("strict") is True:
        raise UnsupportedParameter(warnings[0]["param"], warnings[0]["reason"].replace(", left out", ""))
    return Prepared(translated, tuple(warnings))


@cache
def _by_name(endpoint: Endpoint) -> Mapping[str, Parameter]:
    return {
        name: parameter
        for parameter in PARAMETERS
        if endpoint in parameter.endpoints
        for name in (parameter.name, *parameter.aliases)
    }


def _choices(endpoint: Endpoint, body: Mapping[str, Any]) -> int:
    if endpoint in _READING:
        return 1
    each = _answers(body)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and any(type(item) is not int for item in prompt):
        return each * len(prompt)
    return each


def _answers(body: Mapping[str, Any]) -> int:
    return int(body.get("n") or body.get("n_cmpl") or body.get("num_return_sequences") or 1)


def _check_whole(endpoint: Endpoint, body: Mapping[str, Any]) -> None:
    """What must be there, and what cannot stand together."""
    for needed, other, expected in _NEEDED[endpoint]:
        if body.get(needed) is None and (not other or body.get(other) is None):
            raise BadRequest(f"{needed} is missing; expected {expected}", param=needed)
    if endpoint == "completion" and _answers(body) > 1 and has_empty(body["prompt"]):
        # llama.cpp never answers that: the second answer waits for what the first has made of the prompt.
        raise BadRequest("the prompt is empty; expected some text where n is more than 1", param="prompt")
    if endpoint == "chat" and body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise BadRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    if body.get("grammar") and body.get("json_schema") is not None:
        raise BadRequest("grammar and json_schema exclude each other; give one", param="grammar")


def _unknown(name: str, known: Iterable[str]) -> str:
    """Why a field was left out, and what may have been meant."""
    if name in options_by_name():
        option = options_by_name()[name].name
        return f"a model is loaded with it, no request has it, left out; give it to the load as options.{option}"
    if name in _ELSEWHERE:
        return f"not known here, left out; {_ELSEWHERE[name]}"
    if there := [path for endpoint, path in _PATHS.items() if name in _by_name(endpoint)]:
        return f"not known here, left out; it is a parameter of {' and '.join(there)}"
    close = difflib.get_close_matches(name, known, 1, 0.7)
    return f"not known here, left out{f'; did you mean {close[0]}?' if close else ''}"


_PATHS: Final[Mapping[Endpoint, str]] = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "classify": "/v1/classify",
}
_AS_IT_IS: Final = "a prompt that is to stay as it is goes to /v1/completions"
_TEMPLATE: Final = "the chat template of the model decides, or the load options chat_template and chat_template_file"

_ELSEWHERE: Final[Mapping[str, str]] = {
    "options": "what it holds stands beside `model`, what a model is loaded with in the load",
    "format": 'give response_format: {"type": "json_object"}, or json_schema',
    **dict.fromkeys(("think", "thinking"), "give enable_thinking or reasoning_effort"),
    **dict.fromkeys(("system", "instructions"), "give a message of the role system"),
    **dict.fromkeys(("raw", "context"), _AS_IT_IS),
    **dict.fromkeys(("mode", "template", "instruction_template", "instruction_template_str", "character"), _TEMPLATE),
    "preset": "give its parameters one by one",
    **dict.fromkeys(("max_output_tokens", "max_tokens_to_sample"), "give max_tokens"),
    **dict.fromkeys(("max_context_length", "truncation_length"), "a model is loaded with the option ctx"),
    "functions": "give tools",
    "function_call": "give tool_choice",
    "images": 'give parts of a message: {"type": "image_url", "image_url": {"url": "data:image/..."}}',
    "memory": "let the prompt begin with it",
    "sampler_order": "give sampler_priority, with names",
}
"""A field of Ollama, KoboldCpp, text-generation-webui, Anthropic or OpenAI's other ways -> what to give here."""

_READING: Final = ("embedding", "rerank", "classify")
"""Endpoints that generate nothing."""

_NEEDED: Final[Mapping[Endpoint, tuple[tuple[str, str, str], ...]]] = {
    "chat": (("messages", "", "a list of {role, content}"),),
    "completion": (("prompt", "", "a text, a list of texts or a list of token ids"),),
    "embedding": (("input", "content", "a text or a list of texts"),),
    "rerank": (("query", "", "a text"), ("documents", "texts", "a list of texts")),
    "classify": (("input", "content", "a text or a list of texts"),),
}
"""What must be there: its name, another one that does as well, and what it is."""


def _translate(
    checked: Checked, way: str, spec: EngineSpec, context_length: int, vocabulary: int
) -> tuple[dict[str, Any], list[Notice]]:
    """The body under canonical names, converted, then under the engine's names. way: of `EngineSpec.schemas`."""
    body, known = checked.body, _by_name(checked.endpoint)
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    """Canonical name -> the name in the request, for messages."""
    warnings: list[Notice] = []
    for name, value in body.items():
        parameter = known.get(name)
        if parameter is None:
            # Looking takes a while, and a body may hold a hundred thousand of them.
            warnings.append({"param": name, "reason": _unknown(name, known if len(warnings) < _HINTS else ())})
        elif value is None or name == "strict" or parameter.ours:
            continue
        elif parameter.name in values and values[parameter.name] != value:
            raise BadRequest(f"{name} and {given[parameter.name]} are the same parameter and differ", param=name)
        else:
            values[parameter.name], given[parameter.name] = value, name
    for convert in CONVERSIONS:
        convert(values, given, spec, context_length)
    if vocabulary and spec.dialect.get("logit_bias", "") is not None:
        warnings += _beyond(values, given, vocabulary)
    warnings += _loose(values, given, spec, way) if way else ()
    said: dict[str, Any] = {}
    for name, value in values.items():
        target = spec.dialect.get(name, None if name in _RARE else name)
        if (target is None and name in _SILENT) or (name == "lora" and spec.names_adapters):
            continue
        if target is None:
            warnings.append({"param": given.get(name, name), "reason": f"the engine {spec.name} has no such parameter"})
        elif "." in target:  # a field of an object: `structured_outputs.regex`
            outer, _, inner = target.partition(".")
            said.setdefault(outer, {})[inner] = value
        else:
            said[target] = value
    return said, warnings


def _loose(values: dict[str, Any], given: Mapping[str, str], spec: EngineSpec, way: str) -> Iterator[Notice]:
    """What of a schema has no effect. Raises BadRequest for what would leave the whole schema without one."""
    schema = schema_of(values)
    if type(schema) is not dict:
        return
    param = given.get("json_schema") or given.get("response_format", "response_format")
    if way == "llguidance":
        if place := unfollowed(schema):
            expected = "a pattern without look-around, back-references and \\b, which llguidance does not know"
            raise BadRequest(f"{param}: {place} is no pattern for {spec.title}; expected {expected}", param=param)
        if "json_schema" in values:
            # Else one keyword that it does not know leaves the answer free altogether.
            values["json_schema"] = lenient(schema)
    if left := unheeded(schema, way):
        yield {"param": param, "reason": f"{_passed(left, spec)}; the answer follows the rest of the schema"}


def _loose_calls(body: Mapping[str, Any], spec: EngineSpec, way: str) -> Iterator[Notice]:
    """What of the tools' parameters has no effect."""
    for param, left in islice(passed_over(body, way), _HINTS):
        yield {"param": param, "reason": f"{_passed(left, spec)}; a call follows the rest of the schema at most"}


def _passed(left: Sequence[str], spec: EngineSpec) -> str:
    named = ", ".join(path[:100] for path in left[:_HINTS]) + (", ..." if len(left) > _HINTS else "")
    return f"not heeded by {spec.title}: {named}"


def _details(body: Mapping[str, Any]) -> list[Notice]:
    """What images ask for beside themselves: OpenAI's `detail`, which no engine here has."""
    found: list[Notice] = []
    for place, message in enumerate(body.get("messages") or ()):
        content = message.get("content")
        for index, part in enumerate(content if type(content) is list else ()):
            image = part.get("image_url")
            if type(image) is dict and image.get("detail") not in (None, "auto"):
                where = f"messages[{place}].content[{index}].image_url.detail"
                found.append({"param": where, "reason": "left out: an image is read in the size that its model takes"})
    return found


def _beyond(values: dict[str, Any], given: Mapping[str, str], vocabulary: int) -> list[Notice]:
    """Leave biases of tokens out that the model does not have: engines drop them without a word, or refuse them all."""
    bias = values.get("logit_bias")
    if not bias:
        return []
    if type(bias) is dict:
        unknown = [key for key in bias if key.isdecimal() and int(key[:20]) >= vocabulary]
        left: Any = {key: amount for key, amount in bias.items() if key not in set(unknown)}
    else:
        unknown = [str(pair[0]) for pair in bias if type(pair[0]) is int and pair[0] >= vocabulary]
        left = [pair for pair in bias if type(pair[0]) is not int or pair[0] < vocabulary]
    if not unknown:
        return []
    values["logit_bias"] = left
    named = ", ".join(token[:20] for token in unknown[:_HINTS]) + (", ..." if len(unknown) > _HINTS else "")
    reason = f"left out of it: {named}; the model's tokens are 0 to {vocabulary - 1}"
    return [{"param": given.get("logit_bias", "logit_bias"), "reason": reason}]


_HINTS: Final = 10
_NOTHING: Final = (
    "it is empty, and the model's file names no token that begins a text: there is nothing to go on from, and the "
    "answer may be empty too"
)

_SILENT: Final = frozenset({"model", *(parameter.name for parameter in PARAMETERS if parameter.inert)})
"""What an engine may not want to see, and nobody misses: the name has brought the request here."""

_RARE: Final = frozenset(parameter.name for parameter in PARAMETERS if parameter.rare)
