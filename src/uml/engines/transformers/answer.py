"""One answer on its way: what it began with, how its tokens are chosen, and who hears of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from uml.engines.hosted.answer import News
from uml.engines.transformers.beams import Beams
from uml.sampling.chain import Chain
from uml.sampling.grammar import Guide
from uml.sampling.guidance import Guidance


@dataclass(slots=True, eq=False)
class Answer:
    """One answer, from the queue to its last token.

    most: tokens to generate. ends: tokens that end it, and are told like others. guide: what the answer must look
    like, where that is asked for. scales: adapter -> how strongly it works here. inputs: what the model takes beside
    the prompt's tokens: the pixels of images. beams: a search for the likeliest answer in place of its choices.
    guidance: away from what follows another text.
    """

    prompt: list[int]
    most: int
    chain: Chain
    ends: frozenset[int]
    loop: asyncio.AbstractEventLoop
    guide: Guide | None = None
    scales: Mapping[int, float] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    beams: Beams | None = None
    guidance: Guidance | None = None
    reuse: bool = True
    """Whether what an earlier answer has left may be gone on with."""
    made: list[int] = field(default_factory=list)
    cached: int = 0
    gone: bool = False
    """Nobody listens any more."""
    news: asyncio.Queue[News] = field(default_factory=asyncio.Queue)

    @property
    def bare(self) -> bool:
        """Whether the next token is simply the likeliest one, and nothing else is told of it."""
        return self.guide is None and self.chain.bare

    def choose(self, scores: torch.Tensor) -> News:
        """The next token by its scores, `[vocabulary]`. Raises EngineError where they are no numbers."""
        logits = scores.float().cpu().numpy()
        choice = self.chain.choose_within(logits, self.guide) if self.guide else self.chain.choose(logits)
        return self._took(choice.token, choice.logprob, choice.top)

    def take(self, token: int) -> News:
        """Note the likeliest token as chosen."""
        self.chain.accept(token)
        return self._took(token)

    def _took(self, token: int, logprob: float | None = None, top: tuple[tuple[int, float], ...] = ()) -> News:
        first = not self.made
        self.made.append(token)
        ended = token in self.ends
        # Where nothing but an end could come, the model need not be asked for it.
        ended = ended or (self.guide is not None and not self.guide.free_to_choose)
        finish = "stop" if ended else "length" if len(self.made) >= self.most else None
        told = None if self.chain.settings.alternatives is None else logprob
        return News(token, finish, told, top, self.cached if first else 0)


def deliver(news: Iterable[tuple[Answer, News]]) -> None:
    """Tell everybody what a step made, from the thread that computes."""
    pairs = list(news)
    if not pairs:
        return

    def tell() -> None:
        for answer, item in pairs:
            answer.news.put_nowait(item)

    loop = pairs[0][0].loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)
