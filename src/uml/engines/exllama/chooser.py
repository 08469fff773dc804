"""Our chain in the place of a library's sampler: for one answer, from its scores to its token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uml.core.errors import EngineError
from uml.core.host import TokenLogprob
from uml.sampling.chain import Chain, Choice
from uml.sampling.grammar import Guide
from uml.sampling.history import Tokens
from uml.sampling.row import Floats
from uml.sampling.settings import Settings
from uml.sampling.vocabulary import Vocabulary


class Chooser:
    """Chooses the tokens of one answer. The library's thread asks for them; others read what is told.

    prompt: its tokens. guide: a structure that the library knows nothing of, which nothing is taken back from.
    failed: why no further token could be chosen; the answer ends there.
    """

    failed: EngineError | None = None

    def __init__(
        self, settings: Settings, vocabulary: Vocabulary, prompt: list[int], guide: Guide | None = None
    ) -> None:
        self.prompt = len(prompt)
        self._chain, self._guide, self._vocabulary = Chain(settings, vocabulary, prompt), guide, vocabulary
        self._choices: list[Choice] = []

    def choose(self, logits: Floats, answer: Tokens, allowed: NDArray[np.bool_] | None = None) -> int:
        """The token behind these of the answer.

        logits: one for each token, as the model gives them; only read. allowed: which of them the library lets come,
        where it is not all.
        """
        try:
            choice = self._chosen(logits, answer, allowed)
        except EngineError as error:
            # Raised here it would end the answers of all: this one ends, and its host says why.
            self.failed = error
            return min(self._vocabulary.ends, default=0)
        if self._chain.settings.alternatives is not None:
            del self._choices[len(answer) :]
            self._choices.append(choice)
        return choice.token

    def _chosen(self, logits: Floats, answer: Tokens, allowed: NDArray[np.bool_] | None) -> Choice:
        chain = self._chain
        # A library goes back where a banned text has come, and knows by itself how far.
        chain.follow(answer)
        if self._guide is not None:
            return chain.choose_within(logits, self._guide)
        return chain.choose(logits, None if allowed is None else _bits(allowed))

    def likely(self, place: int, count: int) -> tuple[TokenLogprob, ...]:
        """Probabilities of so many tokens of the answer; empty where the request does not ask for them."""
        pieces = self._vocabulary.pieces
        return tuple(
            TokenLogprob(
                choice.token,
                pieces[choice.token],
                choice.logprob,
                tuple(TokenLogprob(token, pieces[token], logprob) for token, logprob in choice.top),
            )
            for choice in self._choices[place : place + count]
        )


def _bits(allowed: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """One bit for each token, in whole words."""
    bits = np.packbits(allowed, bitorder="little")
    return np.concatenate([bits, np.zeros(-len(bits) % 4, np.uint8)]).view(np.uint32)
