"""What goes wrong on our own endpoints, in our words: one shape of error, whoever found it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from uml.core.errors import BadRequest, NotFound, UmlError, UnknownField
from uml.core.options import options_by_name
from uml.gateway.replies import json_reply
from uml.gateway.wire import Call, internal_error, retry_after


def answer(app: FastAPI) -> None:
    """Have every error of this application answered by what is here."""
    app.add_exception_handler(UmlError, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _internal)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, UmlError)
    reply = json_reply(error.as_dict(), error.status)
    for name, value in retry_after(error):
        reply.headers[name.decode()] = value.decode()
    return reply


async def _internal(request: Request, error: Exception) -> Response:
    """What nobody expected. It is raised again after this reply, and logged where it arrives."""
    call: Call = request.scope["uml.call"]
    return json_reply(internal_error(call.id).as_dict(), 500)


async def _no_route(request: Request, error: Exception) -> Response:
    """What the router itself refuses: an unknown path, another method, or a body that is no JSON at all."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    allowed = (error.headers or {}).get("Allow", "")
    if error.status_code == 405:
        answer = NotFound(f"{path} takes {allowed or 'another method'}, not {request.method}").as_dict()
        answer["error"]["code"] = "method_not_allowed"
    elif error.status_code == 400:
        answer = BadRequest("the body is not JSON").as_dict()
    else:
        hint = _route_hint(path, list(request.app.openapi()["paths"]))
        answer = NotFound(f"there is nothing at {path}{hint}; /docs lists what there is").as_dict()
    reply = json_reply(answer, error.status_code)
    if allowed:
        reply.headers["allow"] = allowed
    return reply


def _route_hint(path: str, known: Sequence[str]) -> str:
    """What a client that was pointed at the wrong place may have meant."""
    if f"/v1{path}" in known:
        return f"; did you mean /v1{path}? The base URL of an OpenAI client ends in /v1"
    if path.startswith("/v1/v1/"):
        return f"; did you mean {path[3:]}? The base URL has /v1 already"
    if path.rstrip("/") == "/v1":
        return ", the base URL of an OpenAI client; it asks for /v1/models and /v1/chat/completions itself"
    for there, here in _ELSEWHERE.items():
        if path == there or (there.endswith("/") and path.startswith(there)):
            return here
    close = difflib.get_close_matches(path, known, 1, 0.85)
    return f"; did you mean {close[0]}?" if close else ""


def _known_as(program: str, routes: Mapping[str, str]) -> dict[str, str]:
    pointed = f", where {program} has its own API; point the program at /v1 as an OpenAI server: "
    return {there: pointed + here for there, here in routes.items()}


_NO_DOWNLOAD: Final = (
    "; models are not downloaded or made here: put the file anywhere, then POST /v1/models/add or scan"
)
_NO_ENGINE: Final = "; no engine here makes or hears {}: models here read and write text, and some see images"

_ELSEWHERE: Final[Mapping[str, str]] = {
    **_known_as(
        "Ollama",
        {
            "/api/chat": "/v1/chat/completions",
            "/api/generate": "/v1/completions",
            "/api/embed": "/v1/embeddings",
            "/api/embeddings": "/v1/embeddings",
            "/api/tags": "/v1/models",
            "/api/show": "/v1/models",
            "/api/ps": "/v1/models/status",
            "/api/version": "/version",
            "/api/delete": "/v1/models/forget",
            "/api/copy": "/v1/models/alias",
        },
    ),
    **dict.fromkeys(("/api/pull", "/api/create", "/api/push"), _NO_DOWNLOAD),
    **_known_as(
        "Anthropic",
        {"/v1/messages": "/v1/chat/completions", "/v1/messages/count_tokens": "/v1/tokenize"},
    ),
    **dict.fromkeys(("/v1/responses", "/v1/responses/"), "; the older way of OpenAI is here: /v1/chat/completions"),
    **_known_as(
        "KoboldCpp",
        {
            "/api/v1/generate": "/v1/completions",
            "/api/latest/generate": "/v1/completions",
            "/api/extra/generate/stream": "/v1/completions",
            "/api/extra/generate/check": "/v1/completions with stream",
            "/api/extra/abort": "a closed connection stops its answer",
            "/api/extra/tokencount": "/v1/tokenize",
            "/api/v1/model": "/v1/models",
            "/api/extra/version": "/version",
            "/api/v1/info/version": "/version",
            "/api/v1/config/max_context_length": "/v1/models/status",
            "/api/extra/true_max_context_length": "/v1/models/status",
            "/api/extra/embeddings": "/v1/embeddings",
        },
    ),
    **_known_as("LM Studio", {"/api/v0/": "the same names below /v1", "/api/v1/chat": "/v1/chat/completions"}),
    **_known_as("text-generation-webui", {"/v1/internal/": "/v1/models/load, unload and status, /v1/tokenize"}),
    "/health": "; did you mean /health/live or /health/ready?",
    "/v1/health": "; did you mean /health/live or /health/ready?",
    "/ping": "; did you mean /health/live?",
    **dict.fromkeys(("/completion", "/infill"), "; did you mean /v1/completions?"),
    "/embedding": "; did you mean /v1/embeddings?",
    "/reranking": "; did you mean /v1/rerank?",
    **dict.fromkeys(("/props", "/slots", "/running"), "; did you mean /v1/models/status?"),
    "/unload": "; did you mean /v1/models/unload?",
    "/upstream/": "; requests are passed on by the `model` that they name, at /v1",
    **dict.fromkeys(("/v1/images/", "/sdapi/"), _NO_ENGINE.format("images")),
    "/v1/audio/": _NO_ENGINE.format("sound"),
}
"""A route of another program -> half a sentence on what does that here; one that ends in / stands for all below it."""


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    refused = _refused(error.errors(), await _known_fields(request))
    return json_reply(refused.as_dict(), refused.status)


async def _known_fields(request: Request) -> Sequence[str]:
    """The names of the body's fields, to find what a misspelt one may have meant."""
    route = request.scope.get("route")
    body = getattr(route, "body_field", None)
    kind = getattr(getattr(body, "field_info", None), "annotation", None)
    return list(getattr(kind, "model_fields", ()))


def _refused(faults: Sequence[Any], known: Sequence[str]) -> BadRequest:
    """The first fault of a body or query, with the path of its field."""
    fault = faults[0]
    # The first part says whether it was body, query or path.
    place = list(fault["loc"][1:])
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if fault["type"] == "json_invalid":
        reason = fault.get("ctx", {}).get("error", "")
        return BadRequest(f"the body is not JSON: {reason} at character {place[0] if place else 0}")
    if fault["type"] == "extra_forbidden":
        if path in options_by_name() and "options" in known:
            return UnknownField(path, instead=f"a load option stands within options: options.{path}")
        return UnknownField(path, difflib.get_close_matches(path, known, 2))
    if fault["type"] == "missing":
        return BadRequest(f"{path or 'the body'} is missing", param=path or None)
    message = str(fault["msg"])
    return BadRequest(f"{path or 'the body'}: {message[:1].lower()}{message[1:]}", param=path or None)
