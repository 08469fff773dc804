"""Several answers to one request, counted right.

llama.cpp's server tells the usage of the first answer only, or of each one by itself in a stream,
and begins some of these streams with an event that is `null`. So a request for several answers is
always streamed from the worker; here its events become one stream, or one object, with the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

DONE: Final = b"data: [DONE]\n\n"


class Events:
    """Server-sent events from bytes that may be cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Any]:
        """The JSON values that are complete now; `[DONE]`, comments and `null` are left out."""
        whole = (self._rest + data).replace(b"\r\n", b"\n")
        *complete, self._rest = whole.split(b"\n\n")
        for block in complete:
            lines = [line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:")]
            text = b"\n".join(lines)
            if text and text not in (b"[DONE]", b"null"):
                yield orjson.loads(text)


class Sums:
    """Usage and timings over all answers.

    Completion tokens add up. Every answer tells the prompt of its own again: `n` answers share one.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._usages: list[dict[str, Any]] = []
        self._timings: list[dict[str, Any]] = []

    def take(self, value: dict[str, Any]) -> None:
        """Take usage and timings out of an event."""
        for name, kept in (("usage", self._usages), ("timings", self._timings)):
            found = value.pop(name, None)
            if isinstance(found, dict):
                kept.append(found)

    @property
    def usage(self) -> dict[str, Any] | None:
        """The usage of the whole request, None where the engine told none."""
        if len(self._usages) < 2:
            return self._usages[0] if self._usages else None

        def total(name: str) -> int:
            return sum(int(usage.get(name) or 0) for usage in self._usages)

        prompt, completion = total("prompt_tokens") // self._n, total("completion_tokens")
        cached = sum(
            int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0) for usage in self._usages
        )
        return {
            "completion_tokens": completion,
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": min(prompt, cached // self._n)},
        }

    @property
    def timings(self) -> dict[str, Any] | None:
        """Tokens added up, over the longest time that one answer took."""
        if len(self._timings) < 2:
            return self._timings[0] if self._timings else None
        joined: dict[str, Any] = {}
        for name in ("cache_n", "prompt_n", "predicted_n"):
            joined[name] = sum(timing.get(name) or 0 for timing in self._timings)
        for name in ("prompt_ms", "predicted_ms"):
            joined[name] = max(timing.get(name) or 0 for timing in self._timings)
        for count, took, rate in (
            ("prompt_n", "prompt_ms", "prompt_per_second"),
            ("predicted_n", "predicted_ms", "predicted_per_second"),
        ):
            joined[rate] = joined[count] / joined[took] * 1000 if joined[took] else 0.0
        return joined


def without_sums(value: dict[str, Any], sums: Sums) -> bool:
    """Take the figures out of an event; whether anything is left to pass on."""
    sums.take(value)
    return bool(value.get("choices")) or "choices" not in value


def last_event(like: dict[str, Any], sums: Sums) -> dict[str, Any]:
    """The event with the sums that ends a stream; like: an earlier event of it."""
    told = {name: value for name, value in (("usage", sums.usage), ("timings", sums.timings)) if value is not None}
    return {**{name: value for name, value in like.items() if name != "choices"}, "choices": [], **told}


def join(events: Iterable[dict[str, Any]], n: int) -> dict[str, Any]:
    """One reply from the events of a stream, as the engine would have sent it at once."""
    sums = Sums(n)
    head: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for value in events:
        without_sums(value, sums)
        head = head or {name: part for name, part in value.items() if name != "choices"}
        for piece in value.get("choices") or ():
            _add(choices.setdefault(piece["index"], {"index": piece["index"]}), piece)
    kind = {"chat.completion.chunk": "chat.completion"}.get(head.get("object", ""), head.get("object"))
    figures = {name: value for name, value in (("usage", sums.usage), ("timings", sums.timings)) if value is not None}
    for choice in choices.values():
        message = choice.get("message")
        if message and message["content"] is None and not message.get("tool_calls"):
            message["content"] = ""
    return {**head, "object": kind, "choices": [choices[index] for index in sorted(choices)], **figures}


def _add(choice: dict[str, Any], piece: dict[str, Any]) -> None:
    if piece.get("finish_reason"):
        choice["finish_reason"] = piece["finish_reason"]
    if "text" in piece:
        choice["text"] = choice.get("text", "") + (piece["text"] or "")
        choice.setdefault("logprobs", None)
    logprobs = piece.get("logprobs")
    if isinstance(logprobs, dict):
        kept = choice.get("logprobs") or {}
        choice["logprobs"] = {name: [*kept.get(name, []), *(part or [])] for name, part in logprobs.items()}
    if "delta" in piece:
        _add_delta(choice.setdefault("message", {"role": "assistant", "content": None}), piece["delta"])


def _add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, part in delta.items():
        if name == "tool_calls":
            for call in part or ():
                _add_call(message.setdefault("tool_calls", []), call)
        elif isinstance(part, str) and name != "role":
            message[name] = (message.get(name) or "") + part
        elif part is not None:
            message[name] = part


def _add_call(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    place = piece.get("index", len(calls))
    while len(calls) <= place:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[place], piece.get("function") or {}
    call["id"] = piece.get("id") or call["id"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""
