"""The tokens of a vocabulary with their kinds, by number, as GGUF lists them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from uml.formats.bounded_json import child
from uml.formats.gguf.values import f32s, i32s, texts
from uml.runtime.conversions.gguf.source import Json, Source

SPACE: Final = "\u2581"
"""What SentencePiece writes for a space."""
ADDED_SCORE: Final = -1000.0
NO_SCORE: Final = -10_000.0


class Kind(IntEnum):
    """llama_token_type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Added:
    """A token that is one wherever it stands in a text. special: it controls, and is not printed."""

    content: str
    special: bool


@dataclass(slots=True)
class Tokens:
    """As many as the embedding has rows; those that the tokenizer does not have are never made."""

    pieces: list[str]
    kinds: list[int]
    scores: list[float]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, count: int) -> Tokens:
        """Unused ones."""
        return cls([f"[PAD{number}]" for number in range(count)], [int(Kind.UNUSED)] * count, [NO_SCORE] * count)

    def put(self, number: int, piece: str, kind: Kind, score: float = 0.0) -> None:
        """Set one. What has no row in the embedding is left out."""
        if 0 <= number < len(self.pieces):
            self.pieces[number], self.kinds[number], self.scores[number] = piece, int(kind), score

    def add(self, added: Mapping[int, Added]) -> None:
        """Tokens that are found before anything is merged."""
        for number, token in added.items():
            if token.special or looks_special(token.content):
                self.put(number, token.content, Kind.CONTROL, ADDED_SCORE)
            else:
                # llama.cpp looks for these in the text as it comes.
                self.put(number, token.content.replace(SPACE, " "), Kind.USER_DEFINED, ADDED_SCORE)
        if beyond := [token.content for number, token in added.items() if number >= len(self.pieces)]:
            self.notes.append(f"tokens without a weight are left out: {', '.join(beyond[:5])}")

    def keys(self, scored: bool) -> dict[str, bytes]:
        """As metadata."""
        found = {"tokenizer.ggml.tokens": texts(self.pieces)}
        if scored:
            found["tokenizer.ggml.scores"] = f32s(self.scores)
        return found | {"tokenizer.ggml.token_type": i32s(self.kinds)}


def looks_special(content: str) -> bool:
    """Whether a token is for control though nobody says so, as llama.cpp's converter sees it."""
    if content in ("<pad>", "<mask>", "<2mass>", "[@BOS@]"):
        return True
    marks = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return any(content.startswith(begin) and content.endswith(end) for begin, end in marks)


def added_tokens(source: Source) -> dict[int, Added]:
    """By number: those of tokenizer.json, else of tokenizer_config.json, else of added_tokens.json."""
    found = {number: Added(content, False) for content, number in source.added.items()}
    decoder = child(source.tokenizer_config, "added_tokens_decoder")
    found |= {int(number): _added(token) for number, token in decoder.items() if _is_added(token, number)}
    listed = source.tokenizer.get("added_tokens")
    if isinstance(listed, list):
        found |= {token["id"]: _added(token) for token in listed if _is_added(token, token.get("id"))}
    return dict(sorted(found.items()))


def _is_added(token: Any, number: Any) -> bool:
    known = isinstance(token, dict) and isinstance(token.get("content"), str)
    return known and str(number).isdecimal()


def _added(token: Json) -> Added:
    return Added(token["content"], token.get("special") is True)


def pairs(merges: Any) -> Iterator[tuple[str, str]]:
    """Merges of tokenizer.json in both of their spellings, `"a b"` and `["a", "b"]`."""
    for merge in merges if isinstance(merges, Sequence) else ():
        if isinstance(merge, str):
            first, _, second = merge.partition(" ")
            yield first, second
        elif isinstance(merge, list) and len(merge) == 2 and all(isinstance(part, str) for part in merge):
            yield merge[0], merge[1]
