"""An engine's own error, said in our words: the one place where it is met."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from uml.core.errors import (
    BadRequest,
    ContextLengthExceeded,
    EngineError,
    NotFound,
    Overloaded,
    UmlError,
)

_FIELD: Final = re.compile(r"^Field '([^']+)': (?:\[json\.exception\.\S+ )?")
_CALLERS_FAULTS: Final = ("Failed to parse", "Cannot use both", "Unknown reasoning format", "vector::_M_range_check")
"""What llama.cpp's server answers with 500 although the request is at fault."""


def refusal(status: int, body: bytes, model: str, endpoint: str = "") -> UmlError:
    """The error in a worker's reply outside 2xx.

    endpoint: `chat`, `completion`, `embedding`, ... names the field that is at fault where the engine does not.
    """
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        reply = None
    error = reply.get("error") if isinstance(reply, dict) else None
    if isinstance(error, dict):
        return from_engine(status, error, model, endpoint)
    text = error if isinstance(error, str) else body[:200].decode("utf-8", "replace")
    return EngineError(model, f"status {status}: {text}")


def from_engine(status: int, error: dict[str, Any], model: str, endpoint: str = "") -> UmlError:
    """The error object of a worker, ours or llama.cpp's, as one of ours."""
    message, code, kind = str(error.get("message", "")), error.get("code"), error.get("type")
    details = error.get("details")
    parts: dict[str, Any] = {**(details if isinstance(details, dict) else {}), **error}
    if kind == "exceed_context_size_error" or code == "context_length_exceeded":
        prompt, context = (
            parts.get("n_prompt_tokens", parts.get("prompt_tokens")),
            parts.get("n_ctx", parts.get("context_length")),
        )
        if isinstance(prompt, int) and isinstance(context, int):
            too_long = ContextLengthExceeded(prompt, context)
            too_long.param = {"completion": "prompt", "embedding": "input"}.get(endpoint, "messages")
            return too_long
    if status == 501 or kind == "not_supported_error":
        return _not_supported(message, model, endpoint)
    if isinstance(code, int):
        status = code
    if status in (400, 422) or message.startswith(_CALLERS_FAULTS):
        return _callers_fault(message, error)
    if status == 404:
        return NotFound(f"{model}: {message}")
    if status in (429, 503):
        return Overloaded(f"{model}: {message}")
    return EngineError(model, message or f"status {status}")


def _not_supported(message: str, model: str, endpoint: str) -> UmlError:
    if endpoint == "embedding":
        return BadRequest(
            f"{model} was loaded without embeddings; load it with the options "
            '{"embeddings": true}: POST /v1/models/load, or uml load',
            param="model",
        )
    return BadRequest(f"{model}: {message}", param="model")


def _callers_fault(message: str, error: dict[str, Any]) -> BadRequest:
    param = error.get("param")
    found = _FIELD.match(message)
    if found:
        param, message = found[1], f"{found[1]}: {message[found.end() :]}"
    if message.startswith("vector::_M_range_check"):
        param, message = "tokens", "tokens: a token id is outside the model's vocabulary"
    if param is None and "grammar" in message:
        param = "grammar"
    if "JSON schema error" in message:
        param, message = "response_format", message[message.index("JSON schema error") :]
    return BadRequest(message, param=param if isinstance(param, str) else None)
