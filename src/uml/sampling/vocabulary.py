"""The tokens of a model as bytes: what breakers, banned phrases and grammars look at."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class Vocabulary:
    """One for each loaded model, shared by all its requests.

    pieces: the bytes of every token by its id, which may be a part of a character; empty for ids that are no token.
    ends: tokens that end an answer.
    special: tokens that stand for no text; `ends` are among them.
    encode: the model's own tokenizer, text -> ids without those that begin or end a prompt. Where it is None, a text
        is taken apart by the longest pieces, which is not always what the model was trained with.
    """

    pieces: Sequence[bytes]
    ends: frozenset[int]
    special: frozenset[int] = frozenset()
    encode: Callable[[str], list[int]] | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def _sorted(self) -> tuple[list[bytes], list[int]]:
        """Pieces that make text, in order, and their ids."""
        pairs = sorted((piece, token) for token, piece in enumerate(self.pieces) if piece and token not in self.special)
        return [piece for piece, _ in pairs], [token for _, token in pairs]

    def beginning_with(self, start: bytes) -> list[int]:
        """Tokens whose bytes begin so."""
        pieces, tokens = self._sorted
        low = bisect_left(pieces, start)
        # No byte of a text in UTF-8 is 0xFF; pieces of single bytes may be, and are looked at one by one.
        high = bisect_left(pieces, start + b"\xff", low)
        while high < len(pieces) and pieces[high].startswith(start):
            high += 1
        return tokens[low:high]

    def containing(self, part: bytes) -> list[int]:
        """Tokens whose bytes contain these, which are of a text in UTF-8."""
        joined, starts = self._joined
        _, tokens = self._sorted
        found, at = [], joined.find(part)
        while at >= 0:
            place = bisect_right(starts, at) - 1
            found.append(tokens[place])
            at = joined.find(part, starts[place + 1])
        return found

    @cached_property
    def _joined(self) -> tuple[bytes, list[int]]:
        """All pieces one behind the other, each behind a byte that no text has, and where they begin."""
        pieces, _ = self._sorted
        joined = b"".join(b"\xff" + piece for piece in pieces)
        return joined, [0, *accumulate(len(piece) + 1 for piece in pieces)]

    def tokens_of(self, text: str) -> list[int]:
        """A text as tokens, special ones left aside."""
        if self.encode is not None:
            return self.encode(text)
        pieces, tokens = self._sorted
        data, found, at = text.encode(), [], 0
        while at < len(data):
            for end in range(len(data), at, -1):
                place = bisect_left(pieces, data[at:end])
                if place < len(pieces) and pieces[place] == data[at:end]:
                    found.append(tokens[place])
                    at = end
                    break
            else:
                at += 1  # a byte that no token has
        return found

    @classmethod
    def of_pieces(cls, pieces: Iterable[bytes], ends: Iterable[int], special: Iterable[int] = ()) -> Vocabulary:
        """A vocabulary without a tokenizer of its own."""
        last = frozenset(ends)
        return cls(tuple(pieces), last, frozenset(special) | last)
