"""What a request adds to single tokens, and what must not come: biases, bans, phrases, ends that come too soon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uml.sampling.history import History, Tokens
from uml.sampling.settings import Bias, Settings
from uml.sampling.vocabulary import Vocabulary


class Biases:
    """Amounts that are added to the logits of tokens; minus infinity bans."""

    def __init__(self, biases: Iterable[Bias], vocabulary: Vocabulary) -> None:
        amounts: dict[int, float] = {}
        for token, amount in biases:
            for one in vocabulary.tokens_of(token) if isinstance(token, str) else (token,):
                # What the model has no token for cannot come anyway.
                if one < len(vocabulary):
                    amounts[one] = amounts.get(one, 0.0) + amount
        self.tokens: Tokens = np.fromiter(amounts, np.int64, len(amounts))
        self.amounts: NDArray[np.float32] = np.fromiter(amounts.values(), np.float32, len(amounts))

    def __len__(self) -> int:
        return len(self.tokens)


def heard(settings: Settings, size: int) -> Settings:
    """The settings, with a notice of their biases of tokens that a vocabulary of this size does not have."""
    gone = dict.fromkeys(token for token, _ in settings.logit_bias if isinstance(token, int) and token >= size)
    if not gone:
        return settings
    some = ", ".join(map(str, [*gone][:_TOLD])) + (", ..." if len(gone) > _TOLD else "")
    notice = {"param": "logit_bias", "reason": f"left out of it: {some}; the model's tokens are 0 to {size - 1}"}
    return replace(settings, notices=(*settings.notices, notice))


_TOLD: Final = 10
"""Tokens that a notice names."""


class Phrases:
    """Texts that an answer never contains: the token that would complete one is banned, however it is cut up.

    Nothing that was written is taken back, so an answer may come to the last token but one of a phrase and then has to
    go on in another way. (KoboldCpp goes back to the beginning of the phrase.)
    """

    def __init__(self, phrases: Sequence[str], vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        whole = [phrase.encode() for phrase in phrases]
        self._whole = sorted({token for phrase in whole for token in vocabulary.containing(phrase)})
        self._longest = max(map(len, whole))
        self._rests: dict[bytes, list[bytes]] = {}
        for phrase in whole:
            for size in range(1, len(phrase)):
                self._rests.setdefault(phrase[:size], []).append(phrase[size:])

    def banned(self, history: History) -> list[int]:
        """Tokens that may not come next."""
        tail = self._tail(history.answer)
        banned = list(self._whole)
        for start in range(len(tail)):
            for rest in self._rests.get(tail[start:], ()):
                banned += self._vocabulary.beginning_with(rest)
        return banned

    def _tail(self, answer: Tokens) -> bytes:
        """The last bytes of the answer, one fewer than the longest phrase."""
        tail, need = b"", self._longest - 1
        for token in answer[::-1]:
            if len(tail) >= need:
                break
            tail = self._vocabulary.pieces[token] + tail
        return tail[max(0, len(tail) - need) :]


class Breakers:
    """Where a sequence breaker of DRY ends in a history, found once for each token."""

    def __init__(self, breakers: Sequence[str], vocabulary: Vocabulary, history: History) -> None:
        self._breakers = [breaker.encode() for breaker in breakers]
        self._reach = max(map(len, self._breakers), default=1) - 1
        self._vocabulary, self._history = vocabulary, history
        self._known: dict[int, bool] = {}
        self._breaks = np.zeros(len(history) + 512, bool)
        self._tails: list[bytes] = []
        self._drops = history.drops

    def alone(self, token: int) -> bool:
        """Whether a token has a breaker in it by itself."""
        known = self._known.get(token)
        if known is None:
            piece = self._vocabulary.pieces[token] if token < len(self._vocabulary) else b""
            known = self._known[token] = any(breaker in piece for breaker in self._breakers)
        return known

    def last(self, count: int) -> NDArray[Any]:
        """For each of the last tokens of the history, whether a breaker ends in it."""
        size = len(self._history)
        if self._drops != self._history.drops:
            self._drops = self._history.drops
            self._tails.clear()
        done = len(self._tails)
        if size > len(self._breaks):
            self._breaks = np.concatenate([self._breaks, np.zeros(size, bool)])
        for place, token in enumerate(self._history.last(-1)[done:].tolist(), done):
            self._breaks[place] = self._ends_in(token)
        return self._breaks[max(0, size - count) : size]

    def _ends_in(self, token: int) -> bool:
        """Whether a breaker ends in this token, which comes after those that were looked at."""
        piece = self._vocabulary.pieces[token] if token < len(self._vocabulary) else b""
        before = self._tails[-1] if self._tails else b""
        text = before + piece
        self._tails.append(text[max(0, len(text) - self._reach) :])
        return self.alone(token) or any(
            text.find(breaker, max(0, len(before) - len(breaker) + 1)) >= 0 for breaker in self._breakers
        )


def ends_too_soon(settings: Settings, history: History) -> bool:
    """Whether the answer must not end here."""
    return settings.ignore_eos or history.written < settings.min_tokens
