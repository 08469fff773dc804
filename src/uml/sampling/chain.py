"""A chain of samplers: from the logits of one place to its token, in the order that the request gives.

    chain = Chain(Settings.of(request), vocabulary, prompt_tokens)      # one for each answer
    choice = chain.choose(logits)                                       # one for each token; it remembers the token
    choices = choose_all(chains, rows)                                  # a batch of answers, each with its own chain

The engine's logits are read, and never written to.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml.core.errors import EngineError
from uml.sampling import penalties, selection
from uml.sampling.bans import Biases, Phrases, ends_too_soon
from uml.sampling.grammar import WORD
from uml.sampling.history import Counts, History, Tokens
from uml.sampling.row import Candidates, Floats, best, log_total
from uml.sampling.settings import Settings
from uml.sampling.steps import Step, Tools, steps
from uml.sampling.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uml.sampling.grammar import Guide

Mask = NDArray[np.integer[Any]]
"""One bit for each token, lowest first, in 32-bit words: 1 where a structure allows the token."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The token of one place.

    logprob: the natural logarithm of its probability; NaN where the request does not ask for it.
    top: the likeliest tokens with theirs, best first; as many as the request asks for.

    Both are of the raw distribution, the softmax of the engine's logits, before biases, bans, structure and samplers
    (as llama.cpp tells them, and OpenAI), unless the request says `post_sampling_probs`.
    """

    token: int
    logprob: float = float("nan")
    top: tuple[tuple[int, float], ...] = ()


class Chain:
    """The samplers of one answer, with all that they remember of it.

    seed: the random numbers follow from it alone, whatever else runs beside this answer.
    """

    def __init__(self, settings: Settings, vocabulary: Vocabulary, prompt: Sequence[int] = ()) -> None:
        self.settings = settings
        self.seed = settings.seed if settings.seed >= 0 else secrets.randbits(32)
        self.history = History(prompt)
        self._vocabulary = vocabulary
        self._ends = np.array(sorted(vocabulary.ends), np.int64)
        self._biases = Biases(settings.logit_bias, vocabulary)
        self._phrases = Phrases(settings.banned_strings, vocabulary) if settings.banned_strings else None
        self._uniform: Callable[[], float] = np.random.Generator(np.random.PCG64(self.seed)).random
        tools = Tools(vocabulary, self.history, Counts(self.history, settings.repetition_penalty_range), self._uniform)
        self._steps: list[Step] = steps(settings, tools)
        self._select = self._selector()
        plain = settings.greedy and not self._steps and not len(self._biases) and not self._phrases
        self._plain = plain and settings.alternatives is None
        """What is likeliest is taken, if it may come at all; nothing is told of it."""
        self._bare = self._plain and not settings.ignore_eos

    def _selector(self) -> Callable[[Candidates], int]:
        settings, uniform = self.settings, self._uniform
        if settings.mirostat_mode:
            feedback: selection.Mirostat | selection.Adaptive = selection.Mirostat(
                settings.mirostat_mode, settings.mirostat_tau, settings.mirostat_eta, len(self._vocabulary)
            )
            return lambda row: feedback.choose(row, uniform())
        if settings.adaptive_target > 0:
            feedback = selection.Adaptive(settings.adaptive_target, settings.adaptive_decay)
            return lambda row: feedback.choose(row, uniform())
        if settings.greedy:
            return selection.likeliest
        return lambda row: selection.by_chance(row, uniform())

    @property
    def bare(self) -> bool:
        """Whether the next token is simply the one of the highest logit, and nothing is told about it."""
        return self._bare and self.history.written >= self.settings.min_tokens

    @property
    def endless(self) -> bool:
        """The same, of all tokens but those that end an answer."""
        return self._plain and self.settings.ignore_eos

    def choose(self, logits: Floats, allowed: Mask | None = None) -> Choice:
        """The next token, which is remembered.

        logits: one for each token of the vocabulary; what is beyond it is not looked at.
        allowed: what a structure lets come next, where there is one.
        Raises EngineError where the logits are not numbers.
        """
        logits = self._read(logits)
        if self._plain and (token := self._likeliest(logits, allowed)) is not None:
            self.history.add(token)
            return Choice(token)
        row = self._candidates(logits, allowed)
        for step in self._steps:
            step(row)
        place = self._select(row)
        choice = self._told(logits, row, place)
        self.history.add(choice.token)
        return choice

    def choose_within(self, logits: Floats, guide: Guide) -> Choice:
        """The next token of an answer with a structure, which both remember; the same as by the structure's mask.

        Raises EngineError as `choose` and the structure.
        """
        # What is likeliest is mostly allowed, and to ask for one token is to ask less than for a mask.
        if self._plain:
            token = int(logits.argmax())
            if token < len(self._vocabulary) and math.isfinite(logits[token]) and guide.take(token):
                self.history.add(token)
                return Choice(token)
        choice = self.choose(logits, guide.mask())
        guide.accept(choice.token)
        return choice

    def _read(self, logits: Floats) -> NDArray[np.float32]:
        logits = logits[: len(self._vocabulary)]
        return logits if logits.dtype == np.float32 else logits.astype(np.float32)

    def _likeliest(self, logits: NDArray[np.float32], allowed: Mask | None = None) -> int | None:
        """What a chain takes that only structure and ends are in the way of; None where it takes a longer look."""
        token = int(logits.argmax())
        logit = logits[token]
        if allowed is not None and not int(allowed[token // WORD]) >> token % WORD & 1:
            row = _unbanned(logits, allowed)
            place = selection.likeliest(row)
            token, logit = row.token(place), row.logits[place]
        if not math.isfinite(logit):
            return None
        return None if token in self._vocabulary.ends and ends_too_soon(self.settings, self.history) else token

    def accept(self, *tokens: int) -> None:
        """Remember tokens of the answer that were not chosen here: a structure forced them, or a draft guessed them."""
        for token in tokens:
            self.history.add(token)

    def rewind(self, count: int) -> None:
        """Forget the last tokens of the answer. What Mirostat and adaptive-p learned from them stays learned."""
        self.history.drop(count)

    def follow(self, answer: Tokens) -> None:
        """Take the answer to be these tokens: where an engine goes back by itself, it alone knows how far."""
        known = self.history.answer
        length = min(len(known), len(answer))
        other = np.flatnonzero(known[:length] != answer[:length])
        same = int(other[0]) if len(other) else length
        if same < len(known):
            self.rewind(len(known) - same)
        self.accept(*answer[same:].tolist())

    def _candidates(self, logits: Floats, allowed: Mask | None) -> Candidates:
        """What may come at all. Where bans leave nothing, they yield; a structure never does."""
        row = _unbanned(logits, allowed)
        if len(self._biases):
            places, there = row.places(self._biases.tokens)
            row.change()[places] += self._biases.amounts[there]
        if self._phrases is not None:
            penalties.ban(row, np.array(self._phrases.banned(self.history), np.int64))
        if len(self._ends) and ends_too_soon(self.settings, self.history):
            penalties.ban(row, self._ends)
        if not np.isfinite(row.logits.max()):
            row = _unbanned(logits, allowed)
            if not np.isfinite(row.logits.max()):
                raise _not_numbers()
        return row

    def _told(self, logits: Floats, row: Candidates, place: int) -> Choice:
        token = row.token(place)
        count = self.settings.alternatives
        if count is None:
            return Choice(token)
        if self.settings.post_sampling_probs:
            told = -row.surprises()
            places = best(told, min(count, len(row))) if count else ()
            return Choice(token, float(told[place]), tuple((row.token(int(at)), float(told[at])) for at in places))
        total = log_total(logits)
        tokens = best(logits, min(count, len(logits))) if count else ()
        top = tuple((int(other), float(logits[other]) - total) for other in tokens)
        return Choice(token, float(logits[token]) - total, top)


def choose_all(
    chains: Sequence[Chain], rows: NDArray[np.floating[Any]], allowed: Sequence[Mask | None] | None = None
) -> list[Choice]:
    """The next token of several answers.

    rows: of shape (answers, vocabulary). allowed: for each answer, None where nothing restricts it.
    An answer is the same as it would be alone, given the same logits.
    """
    masks = allowed if allowed is not None else [None] * len(chains)
    return [chain.choose(row, mask) for chain, row, mask in zip(chains, rows, masks, strict=True)]


def _unbanned(logits: Floats, allowed: Mask | None) -> Candidates:
    """All tokens, or those of a bit mask."""
    row = Candidates(logits)
    if allowed is not None:
        bits = np.unpackbits(np.ascontiguousarray(allowed).view(np.uint8), bitorder="little")[: len(row)]
        row.allow(bits.view(np.bool_))
        if not len(row):
            raise EngineError("this model", "the structure of the answer allows no token")
    return row


def _not_numbers() -> EngineError:
    return EngineError("this model", "its logits are not numbers")
