"""From a host's deltas to the pieces of an answer: stop strings, finish reasons, usage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, cast

from uml.core.errors import BadRequest
from uml.core.host import Delta, Host, TokenLogprob, ToolCall


@dataclass(slots=True)
class Usage:
    """Tokens of one request, counted while it is answered."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def as_dict(self) -> dict[str, Any]:
        """OpenAI's `usage` object."""
        details = {"prompt_tokens_details": {"cached_tokens": self.cached}} if self.cached else {}
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            **details,
        }


@dataclass(frozen=True, slots=True)
class Piece:
    """What may be sent. finish: why the choice ends, on its last piece, which may be empty in all else.

    The rest is as in `Delta`.
    """

    text: str
    finish: str | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    warnings: tuple[Mapping[str, str], ...] = ()


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


async def pieces(
    host: Host, request: Mapping[str, Any], usage: Usage, *, again: bool = False
) -> AsyncGenerator[Piece, None]:
    """One choice, piece by piece. Closing this closes the host's iterator, which is the cancel.

    Text that may be the beginning of a stop string is held back until the next token decides.
    again: its prompt is that of the choice before, and was counted there.
    """
    held = Held(stops_of(request))
    deltas: AsyncIterator[Delta] = host.generate(request)
    async with aclosing(cast(_Closable, deltas)):
        async for delta in deltas:
            if not again:
                usage.prompt += delta.prompt_tokens
                usage.cached += delta.cached_tokens
            usage.completion += delta.tokens
            for piece in held.feed(delta):
                yield piece
                if piece.finish:
                    return
    yield Piece(held.text, "stop", held.reasoning, ids=held.ids, logprobs=held.logprobs)


@dataclass(slots=True)
class Held:
    """What of an answer is not sent yet, because it may begin a stop string.

    Thoughts come before the answer; a stop string ends either, and none goes over from one to the other.
    """

    stops: list[str]
    text: str = ""
    reasoning: str = ""
    ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    ahead: int = 0
    """Bytes of text that were sent before the tokens that made them."""

    def feed(self, delta: Delta) -> Iterator[Piece]:
        """What may be sent after a further delta; the last piece ends the choice if it says so."""
        if not self.stops and not self.text:
            # Nothing to look for: most requests.
            yield Piece(
                *(delta.text, delta.finish, delta.reasoning, delta.tool_calls),
                *(delta.ids, delta.logprobs, delta.warnings),
            )
            return
        self.text += delta.text
        self.reasoning += delta.reasoning
        self.ids += delta.ids
        self.logprobs += delta.logprobs
        thought, text = first_stop(self.reasoning, self.stops), first_stop(self.text, self.stops)
        if thought is not None or text is not None:
            said = self.text[:text] if thought is None else ""
            size = self.ahead + len(said.encode()) + len(self.reasoning[:thought].encode())
            kept = within(self.logprobs, size)
            ids = self.ids[: len(kept)] if self.logprobs else ()
            yield Piece(said, "stop", self.reasoning[:thought], (), ids, kept, delta.warnings)
            return
        waits = 0 if delta.finish else longest_beginning(self.text, self.stops)
        # Once the answer has begun, its thoughts are over.
        pauses = 0 if delta.finish or self.text else longest_beginning(self.reasoning, self.stops)
        ready, thought_ready = len(self.text) - waits, len(self.reasoning) - pauses
        if not (ready or thought_ready or delta.finish or delta.tool_calls or delta.warnings):
            return
        whole = not waits and not pauses
        said_now = (self.text[:ready] + self.reasoning[:thought_ready]).encode()
        yield Piece(
            *(self.text[:ready], delta.finish, self.reasoning[:thought_ready], delta.tool_calls),
            # Which token made which text is not told, so they wait until nothing is held back.
            *((self.ids, self.logprobs) if whole else ((), ())),
            delta.warnings,
        )
        self.text, self.reasoning = self.text[ready:], self.reasoning[thought_ready:]
        self.ahead += len(said_now)
        if whole:
            self.ids, self.logprobs, self.ahead = (), (), 0


def within(tokens: tuple[TokenLogprob, ...], size: int) -> tuple[TokenLogprob, ...]:
    """The first tokens that begin within so many bytes of text."""
    found, length = 0, 0
    for token in tokens:
        if length >= size:
            break
        length += len(token.piece)
        found += 1
    return tokens[:found]


def first_stop(text: str, stops: list[str]) -> int | None:
    """Where the earliest stop string begins."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)


def longest_beginning(text: str, stops: list[str]) -> int:
    """Length of the longest end of the text that begins a stop string."""
    return max(
        (size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])),
        default=0,
    )
