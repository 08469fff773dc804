"""What a worker reads from a request and writes in an answer: OpenAI's shapes, llama.cpp's errors."""

from __future__ import annotations

import base64
import struct
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from uml.core.errors import AnswerDoesNotFit, BadKey, BadRequest, ContextLengthExceeded, NotFound, UmlError
from uml.core.host import TokenLogprob, ToolCall
from uml.worker.generate import Piece

MOST_CHOICES: Final = 128
LEAST: Final = -9999.0
"""The logarithm of a probability of nothing: JSON has no infinity."""


def error_body(error: UmlError) -> dict[str, Any]:
    """An error of ours in the shape of llama.cpp's server."""
    body: dict[str, Any] = {"code": error.status, "message": error.message}
    if error.param:
        body["param"] = error.param
    if isinstance(error, ContextLengthExceeded):
        body["type"] = "exceed_context_size_error"
        body["n_prompt_tokens"] = error.details["prompt_tokens"]
        body["n_ctx"] = error.details["context_length"]
    elif isinstance(error, AnswerDoesNotFit):
        body["type"] = "insufficient_memory_error"
        body["details"] = error.details
    elif isinstance(error, BadKey):
        body["type"] = "authentication_error"
    elif isinstance(error, NotFound):
        body["type"] = "not_found_error"
    else:
        body["type"] = "invalid_request_error" if error.status < 500 else "server_error"
    return {"error": body}


LOADING: Final = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


@dataclass(frozen=True, slots=True)
class Shape:
    """The outer form of an answer: a chat's or a completion's."""

    prefix: str
    kind: str
    model: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self, *, chunk: bool = False) -> dict[str, Any]:
        """What every answer and every chunk begins with."""
        kind = f"{self.kind}.chunk" if chunk and self._chat else self.kind
        return {"id": self.prefix + self.id, "object": kind, "created": self.created, "model": self.model}

    def choice(self, index: int, parts: Sequence[Piece]) -> dict[str, Any]:
        """One whole choice, of all its pieces."""
        text = "".join(part.text for part in parts)
        reasoning = "".join(part.reasoning for part in parts)
        calls = [shown_call(call) for part in parts for call in part.tool_calls]
        if not self._chat:
            content: dict[str, Any] = {"text": reasoning + text}
        else:
            message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
            message |= {"reasoning_content": reasoning} if reasoning else {}
            message |= {"tool_calls": calls} if calls else {}
            content = {"message": message}
        ids = [id for part in parts for id in part.ids]
        told = [shown(token) for part in parts for token in part.logprobs]
        return {
            "index": index,
            **content,
            "logprobs": {"content": told} if told else None,
            "finish_reason": parts[-1].finish,
            **({"tokens": ids} if ids else {}),
        }

    def chunk(self, index: int, piece: Piece, *, first: bool) -> dict[str, Any]:
        """A piece of a choice in a stream."""
        if self._chat:
            delta: dict[str, Any] = {"role": "assistant"} if first else {}
            if piece.text or not (piece.reasoning or piece.tool_calls):
                delta["content"] = piece.text
            if piece.reasoning:
                delta["reasoning_content"] = piece.reasoning
            if piece.tool_calls:
                delta["tool_calls"] = [{"index": call.index, **shown_call(call)} for call in piece.tool_calls]
            content: dict[str, Any] = {"delta": delta}
        else:
            content = {"text": piece.reasoning + piece.text}
        told = {"content": [shown(token) for token in piece.logprobs]} if piece.logprobs else None
        choice = {"index": index, **content, "logprobs": told, "finish_reason": piece.finish}
        if piece.ids:
            choice["tokens"] = list(piece.ids)
        warnings = {"warnings": list(piece.warnings)} if piece.warnings else {}
        return {**self.head(chunk=True), "choices": [choice], **warnings}

    @property
    def _chat(self) -> bool:
        return self.kind == "chat.completion"


def shown(token: TokenLogprob) -> dict[str, Any]:
    """A token's probability as OpenAI's chats show it, with its id."""
    return {
        "id": token.id,
        "token": token.piece.decode("utf-8", "replace"),
        "bytes": list(token.piece),
        "logprob": max(token.logprob, LEAST),
        "top_logprobs": [
            {name: part for name, part in shown(one).items() if name != "top_logprobs"} for one in token.top
        ],
    }


def shown_call(call: ToolCall) -> dict[str, Any]:
    """A piece of a call as OpenAI shows it."""
    head = {"id": call.id, "type": "function"} if call.id else {}
    name = {"name": call.name} if call.name else {}
    return {**head, "function": {**name, "arguments": call.arguments}}


def check_messages(body: dict[str, Any]) -> None:
    """Raises BadRequest unless there are messages."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or any(not isinstance(item, dict) for item in messages):
        raise BadRequest("messages must be a list of objects with role and content", param="messages")


def prompts_of(body: dict[str, Any]) -> list[str | list[int]]:
    """Prompts of a completion, texts or token ids. Raises BadRequest."""
    prompt = body.get("prompt")
    prompts: list[Any] = prompt if isinstance(prompt, list) and not is_tokens(prompt) else [prompt]
    if not prompts or any(not isinstance(item, str) and not is_tokens(item) for item in prompts):
        raise BadRequest("prompt must be a text, a list of token ids, or a list of these", param="prompt")
    return prompts


def requests_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """One engine request a choice: every prompt `n` times, with a seed of its own. Raises BadRequest."""
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    if limit == -1:
        limit = None
    if limit is not None and not is_count(limit):
        raise BadRequest("max_tokens must be a whole number from 1, or -1 for no limit", param="max_tokens")
    copies = body.get("n") or 1
    if not is_count(copies) or copies > MOST_CHOICES:
        raise BadRequest(f"n must be a whole number from 1 to {MOST_CHOICES}", param="n")
    found = []
    for prompt in body.get("prompt", [None]):
        for copy in range(copies):
            request = {**body, "max_tokens": limit}
            if prompt is not None:
                request["prompt"] = prompt
            if isinstance(body.get("seed"), int) and body["seed"] >= 0:
                request["seed"] = body["seed"] + copy
            found.append(request)
    return found


def is_again(index: int, body: dict[str, Any]) -> bool:
    """Whether a choice answers the prompt of the one before."""
    return index % (body.get("n") or 1) > 0


def scale_of(body: dict[str, Any]) -> float:
    """How strongly an adapter works; 1 where it is not said. Raises BadRequest."""
    scale = body.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not -100 <= scale <= 100:
        raise BadRequest("scale must be a number from -100 to 100", param="scale")
    return float(scale)


def is_count(value: object) -> bool:
    """A whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_tokens(value: object) -> bool:
    """A list of token ids."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, int) for item in value)


def pack(vector: list[float]) -> str:
    """Little-endian float32 in base64, as OpenAI sends it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
