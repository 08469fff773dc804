"""From a host's deltas to the pieces of an answer: stop strings, finish reasons, usage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, cast

from uml.core.engine import Delta, Host
from uml.core.errors import BadRequest


@dataclass(slots=True)
class Usage:
    """Tokens of one request, counted while it is answered."""

    prompt: int = 0
    completion: int = 0

    def as_dict(self) -> dict[str, int]:
        """OpenAI's `usage` object."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be sent. finish: `stop` or `length` on the last piece of a choice, which may be empty."""

    text: str
    finish: str | None = None


class _Closable(Protocol):
    async def aclose(self) -> None: ...


def stops_of(request: Mapping[str, Any]) -> list[str]:
    """Stop strings of a request: none, one, or several. Raises BadRequest."""
    stop = request.get("stop")
    if stop is None:
        return []
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or any(not isinstance(item, str) for item in stops):
        raise BadRequest("stop must be a string or a list of strings", param="stop")
    return [item for item in stops if item]


async def pieces(host: Host, request: Mapping[str, Any], usage: Usage) -> AsyncGenerator[Piece, None]:
    """One choice, piece by piece. Closing this closes the host's iterator, which is the cancel.

    Text that may be the beginning of a stop string is held back until the next token decides.
    """
    stops = stops_of(request)
    held = ""
    deltas: AsyncIterator[Delta] = host.generate(request)
    async with aclosing(cast(_Closable, deltas)):
        async for delta in deltas:
            usage.prompt += delta.prompt_tokens
            usage.completion += delta.tokens
            held += delta.text
            if (cut := first_stop(held, stops)) is not None:
                yield Piece(held[:cut], "stop")
                return
            if delta.finish:
                yield Piece(held, delta.finish)
                return
            ready = len(held) - longest_beginning(held, stops)
            if ready:
                yield Piece(held[:ready])
                held = held[ready:]
    yield Piece(held, "stop")


def first_stop(text: str, stops: list[str]) -> int | None:
    """Where the earliest stop string begins."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)


def longest_beginning(text: str, stops: list[str]) -> int:
    """Length of the longest end of the text that begins a stop string."""
    return max(
        (size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])),
        default=0,
    )
