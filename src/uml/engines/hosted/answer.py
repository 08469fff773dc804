"""From tokens to the pieces of an answer: text, thoughts, calls of tools, probabilities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass

from uml.core.errors import UmlError
from uml.core.host import Delta, TokenLogprob
from uml.engines.hosted.speech import Reader
from uml.engines.hosted.text import Text


@dataclass(frozen=True, slots=True)
class News:
    """What a step made for one answer.

    token: None where there is none, beside an error. finish: `stop` or `length` with the last one.
    logprob: of the token; None where it is not asked for. top: the likeliest tokens at its place, with theirs.
    cached: tokens of the prompt that were not read anew, with the first one.
    """

    token: int | None
    finish: str | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    cached: int = 0
    error: UmlError | None = None


Told = News | int
"""What a step made, or only its token, where there is nothing else to say of it."""


class Teller:
    """Makes the deltas of one answer from the news of its steps, as many at a time as there are.

    pieces: token -> its bytes. hidden: tokens that stand for no text. ids: whether token ids are asked for.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        hidden: AbstractSet[int],
        reader: Reader,
        *,
        prompt_tokens: int,
        ids: bool = False,
        warnings: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self._pieces, self._reader, self._ids = pieces, reader, ids
        self._text = Text(pieces, hidden)
        self._prompt_tokens, self._warnings = prompt_tokens, tuple(warnings)

    async def follow(self, queue: asyncio.Queue[News]) -> AsyncIterator[Delta]:
        """One delta for all that has come since the last, until the end; raises the UmlError of a failed step."""
        finished = False
        while not finished:
            news = [await queue.get()]
            with suppress(asyncio.QueueEmpty):
                while True:
                    news.append(queue.get_nowait())
            delta = self.tell(news)
            finished = delta.finish is not None
            yield delta

    def tell(self, news: Sequence[Told]) -> Delta:
        """One delta for all of them. Raises the error that one of them brings."""
        tokens: list[int] = []
        logprobs: list[TokenLogprob] = []
        cached, finish = 0, None
        for item in news:
            if isinstance(item, int):
                tokens.append(item)
                continue
            if item.error is not None:
                raise item.error
            if item.token is not None:
                tokens.append(item.token)
            if item.logprob is not None:
                logprobs.append(self._likely(item))
            cached, finish = cached + item.cached, item.finish
        text = self._text.feed(tokens)
        if finish:
            text += self._text.end()
        said = self._reader.feed(text, last=finish is not None)
        delta = Delta(
            said.text,
            tokens=len(tokens),
            finish="tool_calls" if finish == "stop" and self._reader.calls else finish,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=cached,
            reasoning=said.reasoning,
            tool_calls=said.calls,
            ids=tuple(tokens) if self._ids else (),
            logprobs=tuple(logprobs),
            warnings=self._warnings,
        )
        self._prompt_tokens, self._warnings = 0, ()
        return delta

    def _likely(self, item: News) -> TokenLogprob:
        assert item.token is not None
        assert item.logprob is not None
        top = tuple(TokenLogprob(token, self._piece(token), logprob) for token, logprob in item.top)
        return TokenLogprob(item.token, self._piece(item.token), item.logprob, top)

    def _piece(self, token: int) -> bytes:
        return self._pieces[token] if token < len(self._pieces) else b""
