"""A tokenizer.model of SentencePiece: its pieces with their scores.

The file is a protocol buffer, sentencepiece_model.proto: field 1 of the model are pieces (text 1, score 2, type 3),
field 2 the trainer's settings (model_type 3), field 3 the normalizer's (add_dummy_prefix 3).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.errors import BadFile, CorruptFile
from uml.formats.reader import opened, read_at
from uml.runtime.conversions.gguf.tokens import Kind

MAX_BYTES: Final = 64 << 20
_BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")
_UNIGRAM: Final = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """A token."""

    text: str
    score: float
    kind: Kind
    number: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """All of them. prefixed: whether texts are cut with a space before them; None where that is not said."""

    pieces: list[Piece]
    prefixed: bool | None = None
    notes: tuple[str, ...] = ()
    unigram: bool = False


def is_byte(piece: str) -> bool:
    """Whether a piece stands for one byte: `<0x0A>`."""
    return _BYTE.fullmatch(piece) is not None


def read(path: Path) -> Pieces:
    """The pieces of a file. Raises BadFile, CorruptFile."""
    with opened(path) as (file, size):
        if size > MAX_BYTES:
            raise BadFile(path, f"has {size} bytes; at most {MAX_BYTES} are read")
        raw = read_at(file, 0, size)
    found: list[Piece] = []
    prefixed = unigram = True
    try:
        for number, value in _fields(raw):
            if number == 1 and isinstance(value, bytes):
                found.append(_piece(value, len(found)))
            elif number == 2 and isinstance(value, bytes):
                unigram = dict(_fields(value)).get(3, _UNIGRAM) == _UNIGRAM
            elif number == 3 and isinstance(value, bytes):
                prefixed = bool(dict(_fields(value)).get(3, 1))
    except (IndexError, ValueError, struct.error) as error:
        raise CorruptFile(path, f"no model of SentencePiece: {error}") from error
    if not found:
        raise CorruptFile(path, "a model of SentencePiece without pieces")
    return Pieces(found, prefixed, unigram=unigram)


def _piece(raw: bytes, number: int) -> Piece:
    fields = dict(_fields(raw))
    text, score, kind = fields.get(1, b""), fields.get(2, 0.0), fields.get(3, 1)
    if not isinstance(text, bytes) or not isinstance(score, float):
        raise ValueError(f"piece {number} is no text with a score")
    return Piece(text.decode(), score, Kind(int(kind)), number)


def _fields(raw: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Number and value of every field, in their order."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        match tag & 7:
            case 0:
                value, at = _varint(raw, at)
                yield tag >> 3, value
            case 1:
                at += 8
            case 2:
                length, at = _varint(raw, at)
                if at + length > len(raw):
                    raise ValueError(f"a field of {length} bytes ends beyond the file")
                yield tag >> 3, raw[at : at + length]
                at += length
            case 5:
                yield tag >> 3, float(struct.unpack_from("<f", raw, at)[0])
                at += 4
            case kind:
                raise ValueError(f"a field of type {kind}")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number that does not end")
