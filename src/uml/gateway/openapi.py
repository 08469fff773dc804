"""The hot paths in the OpenAPI page: they do not run through FastAPI, and are documented all the same."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from uml.core.options import OPTIONS
from uml.gateway import answers
from uml.generation import PARAMETERS, Endpoint
from uml.generation.shapes import ROLES

_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "description": "The body of every reply outside 2xx, and of an `error` event in a stream.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code"],
            "properties": {
                "message": {"type": "string", "description": "One sentence that says what to do next."},
                "type": {"type": "string", "enum": ["invalid_request_error", "server_error"]},
                "param": {"type": ["string", "null"], "description": "Path of the field: `messages[2].content`."},
                "code": {"type": "string", "description": "`model_not_found`, `context_length_exceeded`, ..."},
                "details": {"type": "object", "description": "The sentence's parts."},
            },
        }
    },
}

_WARNINGS: Final[dict[str, Any]] = {
    "type": "array",
    "description": "Parameters that were left out, and why. In a stream they come with its first event.",
    "items": {"type": "object", "properties": {"param": {"type": "string"}, "reason": {"type": "string"}}},
}

_USAGE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {name: {"type": "integer"} for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
}


def extend(app: FastAPI) -> None:
    """Let `app.openapi()` tell of the hot paths too."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes, description=_ABOUT)
            _add_hot_paths(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


_ABOUT: Final = (
    "One local server for any model on disk. A request for a model that is not loaded loads it; requests wait in "
    "order, and leave the queue when their client leaves. Every error is one JSON object with a code."
)


def _add_hot_paths(schema: dict[str, Any]) -> None:
    parts = schema.setdefault("components", {}).setdefault("schemas", {})
    parts["Error"] = _ERROR
    for body in ("LoadBody", "EstimateBody"):
        parts[body]["properties"]["options"] |= {"properties": _options(), "additionalProperties": False}
    # FastAPI documents a shape of its own for refused bodies, which is never sent.
    for name in ("HTTPValidationError", "ValidationError"):
        parts.pop(name, None)
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _error_response()
    answers.describe(schema)
    hot = {
        "/v1/chat/completions": _generation("chat", "Answer a conversation", ("messages",), "message"),
        "/v1/completions": _generation("completion", "Go on with a text", ("prompt",), "text"),
        "/v1/embeddings": _operation("Vectors of texts", _request("embedding", ("input",)), _EMBEDDINGS, "generation"),
        "/v1/rerank": _operation(
            "Documents by how well they suit a query, best first",
            _request("rerank", ("query", "documents")),
            _RANKING,
            "generation",
        ),
        "/v1/classify": _operation(
            "Labels of texts and their probabilities", _request("classify", ("input",)), _CLASSES, "generation"
        ),
        "/v1/tokenize": _operation("Token ids of a text", _TOKENIZE, _TOKENS, "tokens"),
        "/v1/detokenize": _operation("The text of token ids", _DETOKENIZE, _TEXT, "tokens"),
    }
    schema["paths"] = {**{path: {"post": operation} for path, operation in hot.items()}, **schema["paths"]}


def _options() -> dict[str, Any]:
    kinds: dict[str, Any] = {
        "text": "string", "texts": "array", "numbers": "array", "duration": ["string", "number"]
    }  # fmt: skip
    described: dict[str, Any] = {}
    for option in OPTIONS:
        kind = kinds.get(option.kind, option.kind)
        about = {"type": kind, "description": f"{option.help}: {option.expected}"}
        described |= dict.fromkeys((option.name, *option.aliases), about)
    return described


def _error_response() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": "What went wrong", "content": content}


def _operation(summary: str, request: dict[str, Any], answer: dict[str, Any], tag: str) -> dict[str, Any]:
    return {
        "tags": [tag],
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "The answer", "content": {"application/json": {"schema": answer}}},
            "default": _error_response(),
        },
    }


def _request(endpoint: Endpoint, required: tuple[str, ...]) -> dict[str, Any]:
    known = {
        parameter.name: {**parameter.schema, **_INSIDE.get(parameter.name, {})}
        for parameter in PARAMETERS
        if endpoint in parameter.endpoints
    }
    return {"type": "object", "required": list(required), "properties": known}


_INSIDE: Final[dict[str, dict[str, Any]]] = {
    "messages": {
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {
                    "type": "string",
                    "minLength": 1,
                    "description": f"One of {', '.join(ROLES)}, or one that the model's chat template names",
                },
                "content": {"type": ["string", "array", "null"], "items": {"type": "object"}},
            },
        },
    },
    "tools": {
        "items": {
            "type": "object",
            "required": ["function"],
            "properties": {
                "type": {"type": "string", "enum": ["function"]},
                "function": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1},
                        "description": {"type": "string"},
                        "parameters": {"type": "object"},
                    },
                },
            },
        }
    },
    "response_format": {
        "required": ["type"],
        "properties": {"type": {"type": "string", "enum": ["text", "json_object", "json_schema"]}},
    },
    "documents": {
        "minItems": 1,
        "maxItems": 4096,
        "items": {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
            ]
        },
    },
    "lora": {
        "items": {
            "type": "object",
            "required": ["id"],
            "properties": {"id": {"type": "integer", "minimum": 0}, "scale": {"type": "number"}},
        }
    },
}
"""What stands inside a parameter, as `generation.shapes` checks it."""


def _generation(endpoint: Endpoint, summary: str, required: tuple[str, ...], said: str) -> dict[str, Any]:
    choice = {
        "type": "object",
        "properties": {
            "index": {"type": "integer"},
            said: {"type": "object" if said == "message" else "string"},
            "finish_reason": {"type": "string", "description": "`stop`, `length`, `tool_calls`"},
        },
    }
    answer = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "object": {"type": "string"},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": {"type": "array", "items": choice},
            "usage": _USAGE,
            "timings": {"type": "object", "description": "The engine's own figures, where it gives them."},
            "warnings": _WARNINGS,
        },
    }
    operation = _operation(summary, _request(endpoint, required), answer, "generation")
    operation["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {"type": "string", "description": 'With `"stream": true`: one chunk an event, then `[DONE]`.'}
    }
    return operation


_MODEL: Final[dict[str, Any]] = {"type": "string", "description": "Id or alias of the model"}

_EMBEDDINGS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "object": {"type": "string"},
        "model": {"type": "string"},
        "data": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "embedding": {"type": "array", "items": {"type": "number"}},
                },
            },
        },
        "usage": _USAGE,
        "warnings": _WARNINGS,
    },
}

_RANKING: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "object": {"type": "string"},
        "model": {"type": "string"},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer", "description": "Its place among the documents, from 0."},
                    "relevance_score": {"type": "number", "description": "0 to 1, unless `raw_scores` is true."},
                    "document": {"type": "object", "properties": {"text": {"type": "string"}}},
                },
            },
        },
        "usage": _USAGE,
        "warnings": _WARNINGS,
    },
}

_CLASSES: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "object": {"type": "string"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "labels": {"type": "array", "items": {"type": "string"}, "description": "In the order of `probs`."},
        "data": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "label": {"type": "string", "description": "The likeliest."},
                    "probs": {"type": "array", "items": {"type": "number"}},
                    "num_classes": {"type": "integer"},
                },
            },
        },
        "usage": _USAGE,
        "warnings": _WARNINGS,
    },
}

_TOKENIZE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "model": _MODEL,
        "text": {"type": "string", "description": "Also called prompt, content."},
        "add_special": {"type": "boolean", "description": "With the tokens that begin a text."},
        "with_pieces": {"type": "boolean", "description": "Tokens as objects with `id` and `piece`."},
    },
}

_TOKENS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "tokens": {"type": "array", "items": {}},
        "count": {"type": "integer"},
        "context_length": {"type": "integer", "description": "Tokens that one request may hold."},
    },
}

_DETOKENIZE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["tokens"],
    "properties": {
        "model": _MODEL,
        "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1}},
    },
}

_TEXT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"model": {"type": "string"}, "text": {"type": "string"}},
}
