"""The bytes of every token, told from a `tokenizer.json`: what texts are made of, wherever characters begin and end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

SPACE: Final = "\u2581"
"""What SentencePiece writes for a blank."""


def pieces_of(tokenizer: Mapping[str, Any], size: int) -> list[bytes]:
    """Token id -> its bytes, for `size` ids or as many as there are; empty for ids that are no token.

    tokenizer: the document of a `tokenizer.json`. Byte-level BPE (GPT-2 and its heirs) writes every byte as a
    printable character; SentencePiece writes blanks as U+2581 and single bytes as `<0x0A>`.
    """
    model, decoders = tokenizer["model"], set(_types(tokenizer.get("decoder")))
    vocabulary = model.get("vocab") or {}
    # Unigram models have a list of pairs, others an object.
    tokens = {pair[0]: index for index, pair in enumerate(vocabulary)} if isinstance(vocabulary, list) else vocabulary
    added = {token["id"]: token["content"] for token in tokenizer.get("added_tokens") or ()}
    pieces = [b""] * max([size, *(index + 1 for index in (*tokens.values(), *added))])
    byte_level = "ByteLevel" in decoders
    for text, index in tokens.items():
        pieces[index] = _byte_level(text) if byte_level else _plain(text, decoders)
    for index, text in added.items():
        pieces[index] = text.encode()
    return pieces


def _types(part: Any) -> Iterator[str]:
    """Kinds of the decoders, those inside of sequences too."""
    if isinstance(part, Mapping):
        yield str(part.get("type"))
        for inner in part.get("decoders") or ():
            yield from _types(inner)


def _letters() -> dict[str, int]:
    """Character -> byte, as GPT-2 writes bytes: printable ones as themselves, others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES: Final = _letters()


def _byte_level(text: str) -> bytes:
    try:
        return bytes(_BYTES[letter] for letter in text)
    except KeyError:
        return text.encode()  # a token that was put in as it is


def _plain(text: str, decoders: set[str]) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        try:
            return bytes([int(text[3:5], 16)])
        except ValueError:
            pass
    if "WordPiece" in decoders:
        return text.removeprefix("##").encode() if text.startswith("##") else b" " + text.encode()
    return text.replace(SPACE, " ").encode()
