"""Text from tokens, one after the other: a character comes when its last byte has."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from collections.abc import Set as AbstractSet


class Text:
    """Decodes the tokens of one answer. hidden: tokens that stand for no text, such as its end."""

    def __init__(self, pieces: Sequence[bytes], hidden: AbstractSet[int]) -> None:
        self._pieces, self._hidden = pieces, hidden
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, tokens: Sequence[int]) -> str:
        """What these tokens add; bytes that begin a character are kept for the next one."""
        data = b"".join(self._pieces[token] for token in tokens if token not in self._hidden)
        return self._decoder.decode(data)

    def end(self) -> str:
        """What is left: U+FFFD for a character that was not finished."""
        return self._decoder.decode(b"", True)


def decode(pieces: Sequence[bytes], tokens: Sequence[int]) -> str:
    """The text of tokens, special ones as they are written."""
    return b"".join(pieces[token] for token in tokens).decode("utf-8", "replace")
