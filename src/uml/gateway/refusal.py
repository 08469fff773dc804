"""An engine's own error, said in our words: the one place where it is met."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from uml.core import image
from uml.core.errors import (
    AnswerDoesNotFit,
    BadRequest,
    ContextLengthExceeded,
    EngineError,
    NotFound,
    Overloaded,
    UmlError,
    UnreadableAnswer,
)
from uml.gateway.places import part_at_fault

_FIELD: Final = re.compile(r"^Field '([^']+)': (?:\[json\.exception\.\S+ )?")
_TOO_LONG: Final = re.compile(r"input \((\d+) tokens\) is (?:too large|larger).*batch size: (\d+)")
_OVER: Final = re.compile(r"maximum context length is (\d+) tokens\. However, .*?(\d+) input tokens")
"""As vLLM says it."""
_BLIND: Final = "image input is not supported"
_UNSEEN: Final = "Failed to load image"
_UNREADABLE: Final = re.compile(r"The model produced output that does not match the expected (.+)")
"""llama.cpp's server parts an answer while it comes: its stream, too, holds nothing but this, and no raw text."""
_CALLERS_FAULTS: Final = (
    "Failed to parse",
    "Cannot use both",
    "Unknown reasoning format",
    "vector::_M_range_check",
    "audio input is not supported",
)
"""What llama.cpp's server answers with 500 although the request is at fault."""
_PLACES: Final = (
    ("vector::_M_range_check", "tokens"),
    ("Failed to parse tools", "tools"),
    ("Failed to parse", "messages"),
    ("audio input is", "messages"),
    ("unsupported content", "messages"),
    ("Cannot continue an assistant message", "messages"),
    ("Input content cannot be empty", "input"),
)
"""How its sentences begin, and the field that each is about."""

_OURS: Final = re.compile(r"^the engine of [^:]{1,200} failed: ")

Body = Mapping[str, Any]


def refusal(status: int, body: bytes, model: str, asked: Body = MappingProxyType({})) -> UmlError:
    """The error in a worker's reply outside 2xx.

    asked: the request, which tells what is at fault where the engine does not.
    """
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        reply = None
    error = reply.get("error") if isinstance(reply, dict) else None
    if error is None and isinstance(reply, dict) and isinstance(reply.get("message"), str):
        error = reply  # as TensorRT-LLM's server says it
    if isinstance(error, dict):
        return from_engine(status, error, model, asked)
    text = error if isinstance(error, str) else body[:200].decode("utf-8", "replace")
    return EngineError(model, f"status {status}: {text}")


def from_engine(status: int, error: Body, model: str, asked: Body = MappingProxyType({})) -> UmlError:
    """The error object of a worker, ours or llama.cpp's, as one of ours."""
    message, code, kind = str(error.get("message", "")), error.get("code"), error.get("type")
    if (
        kind == "exceed_context_size_error"
        or code == "context_length_exceeded"
        or _TOO_LONG.search(message)
        or _OVER.search(message)
    ):
        too_long = _too_long(message, error, asked)
        if too_long is not None:
            return too_long
    if status == 501 or kind == "not_supported_error":
        return _not_supported(message, model, asked)
    if kind == "insufficient_memory_error" and isinstance(parts := error.get("details"), dict):
        return AnswerDoesNotFit(model, parts["what"], parts["needed"], parts["free"], parts["less"])
    if isinstance(code, int):
        status = code
    if message.startswith(_BLIND):
        first = next((where for where, _ in _pictures(asked)), "messages")
        return BadRequest(
            f"{first} is an image, and {model} was loaded without a projector, which reads them; load it with one that "
            f"was made for it, by the option mmproj: POST /v1/models/load, or uml load {model} --mmproj FILE",
            param=first,
        )
    if status in (400, 422) or message.startswith(_CALLERS_FAULTS):
        return _callers_fault(message, error, asked)
    if status == 404:
        return NotFound(f"{model}: {message}")
    if status in (429, 503):
        return Overloaded(f"{model}: {message}")
    if found := _UNREADABLE.match(message):
        return UnreadableAnswer(model, found[1])
    # Our workers say it as we do, of a model whose name they may not know.
    return EngineError(model, _OURS.sub("", message) or f"status {status}")


def _too_long(message: str, error: Body, asked: Body) -> ContextLengthExceeded | None:
    fields = ("messages", "prompt", "input", "content", "documents")
    param = next((name for name in fields if asked.get(name) is not None), None)
    batch = _TOO_LONG.search(message)
    if batch:
        # It is embedded in one step, whatever the context.
        return ContextLengthExceeded(int(batch[1]), int(batch[2]), param=param, option="ubatch")
    said = _OVER.search(message)
    if said:
        return ContextLengthExceeded(int(said[2]), int(said[1]), param=param)
    details = error.get("details")
    parts = {**(details if isinstance(details, dict) else {}), **error}
    prompt = parts.get("n_prompt_tokens", parts.get("prompt_tokens"))
    context = parts.get("n_ctx", parts.get("context_length"))
    if isinstance(prompt, int) and isinstance(context, int):
        return ContextLengthExceeded(prompt, context, param=param)
    return None


def _not_supported(message: str, model: str, asked: Body) -> UmlError:
    if asked.get("input") is not None or asked.get("content") is not None:
        return BadRequest(
            f"{model} was loaded without embeddings; load it with the options "
            '{"embeddings": true}: POST /v1/models/load, or uml load',
            param="model",
        )
    return BadRequest(f"{model}: {message}", param="model")


def _callers_fault(message: str, error: Body, asked: Body) -> BadRequest:
    param = error.get("param")
    found = _FIELD.match(message)
    if found:
        param, message = found[1], f"{found[1]}: {message[found.end() :]}"
    elif "JSON schema error" in message:
        param, message = _schema_of(asked), message[message.index("JSON schema error") :]
    elif place := part_at_fault(message, asked):
        param, message = place
    elif message.startswith(_UNSEEN):
        param, message = _unseen(asked)
    elif param is None and "grammar" in message:
        param = "grammar" if asked.get("grammar") else _schema_of(asked)
    elif param is None:
        param = next((place for words, place in _PLACES if message.startswith(words)), None)
    if message.startswith("vector::_M_range_check"):
        message = "tokens: a token id is outside the model's vocabulary"
    return BadRequest(message, param=param if isinstance(param, str) else None)


def _pictures(asked: Body) -> list[tuple[str, str]]:
    """The images of a chat: the path of each, and its kind."""
    found: list[tuple[str, str]] = []
    for place, message in enumerate(asked.get("messages") or ()):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if part.get("type") == "image_url":
                where = f"messages[{place}].content[{index}].image_url.url"
                found.append((where, image.check(image.data_of(image.url_of(part), where), where).kind))
    return found


def _unseen(asked: Body) -> tuple[str, str]:
    """The images that an engine could not decode: all of a request, or those of a kind that it does not read."""
    found = _pictures(asked)
    suspects = [(where, kind) for where, kind in found if kind == "WebP"] or found
    named = ", ".join(f"{where} ({kind})" for where, kind in suspects)
    one = suspects[0][0] if len(suspects) == 1 else "messages"
    return one, f"the engine could not decode {named or 'an image'}; it reads PNG, JPEG, GIF and BMP"


def _schema_of(asked: Body) -> str:
    """The field with the schema that the engine made its grammar of."""
    return next((name for name in ("json_schema", "response_format", "tools") if asked.get(name)), "response_format")
