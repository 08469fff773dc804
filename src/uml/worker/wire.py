"""What a worker reads from a request and writes in an answer: OpenAI's shapes, llama.cpp's errors."""

from __future__ import annotations

import base64
import struct
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from uml.core.errors import BadKey, BadRequest, ContextLengthExceeded, NotFound, UmlError

MOST_CHOICES: Final = 128


def error_body(error: UmlError) -> dict[str, Any]:
    """An error of ours in the shape of llama.cpp's server."""
    body: dict[str, Any] = {"code": error.status, "message": error.message}
    if isinstance(error, ContextLengthExceeded):
        body["type"] = "exceed_context_size_error"
        body["n_prompt_tokens"] = error.details["prompt_tokens"]
        body["n_ctx"] = error.details["context_length"]
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

    def choice(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        """One whole choice."""
        content = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        return {"index": index, **content, "logprobs": None, "finish_reason": finish}

    def chunk(self, index: int, text: str, finish: str | None, *, first: bool) -> dict[str, Any]:
        """A piece of a choice in a stream."""
        role = {"role": "assistant"} if first else {}
        content = {"delta": {**role, "content": text}} if self._chat else {"text": text}
        choice = {"index": index, **content, "logprobs": None, "finish_reason": finish}
        return {**self.head(chunk=True), "choices": [choice]}

    @property
    def _chat(self) -> bool:
        return self.kind == "chat.completion"


def check_messages(body: dict[str, Any]) -> None:
    """Raises BadRequest unless there are messages."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or any(not isinstance(item, dict) for item in messages):
        raise BadRequest("messages must be a list of objects with role and content", param="messages")


def prompts_of(body: dict[str, Any]) -> list[str]:
    """Prompts of a completion. Raises BadRequest."""
    prompt = body.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    texts = [item for item in prompts if isinstance(item, str)]
    if not texts or len(texts) < len(prompts):
        raise BadRequest("prompt must be a text or a list of texts", param="prompt")
    return texts


def requests_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """One engine request a choice: every prompt `n` times, with a seed of its own. Raises BadRequest."""
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    if limit is not None and not is_count(limit):
        raise BadRequest("max_tokens must be a whole number from 1", param="max_tokens")
    copies = body.get("n") or 1
    if not is_count(copies) or copies > MOST_CHOICES:
        raise BadRequest(f"n must be a whole number from 1 to {MOST_CHOICES}", param="n")
    found = []
    for prompt in body.get("prompt", [None]):
        for copy in range(copies):
            request = {**body, "max_tokens": limit}
            if prompt is not None:
                request["prompt"] = prompt
            if isinstance(body.get("seed"), int):
                request["seed"] = body["seed"] + copy
            found.append(request)
    return found


def is_count(value: object) -> bool:
    """A whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_tokens(value: object) -> bool:
    """A list of token ids."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, int) for item in value)


def pack(vector: list[float]) -> str:
    """Little-endian float32 in base64, as OpenAI sends it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
