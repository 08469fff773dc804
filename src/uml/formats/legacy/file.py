"""A LLaMA file from before GGUF: its numbers, its vocabulary, and where each tensor lies.

Little endian. A magic, but for the unversioned ones a version, and seven numbers; the vocabulary, each token with its
length (u32) before it and, but for the unversioned ones, a score (f32) behind it; then tensors to the end of the file:
rank, length of the name, type (u32), sizes (u32, fastest first), name, weights, which begin at multiples of 32 in
GGJT. Models of 13 billion weights and more came in parts with the same vocabulary, NAME, NAME.1, ..., each with a
share of every matrix. Source: `llama_model_loader` of llama.cpp from f963b63 (8 April 2023) to dadbed9, before GGUF.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from uml.core.errors import CorruptFile, MissingShard, UnsupportedFormat
from uml.formats.legacy.coding import FIRST, SECOND, THIRD, Coding
from uml.formats.reader import Cursor, opened

MAX_TOKENS: Final = 1 << 18
"""LLaMA has 32,000; what was made of it for other languages, twice as many."""
MAX_TOKEN: Final = 4096
"""Bytes of one token; llama.cpp's converter takes no longer ones."""
MAX_VOCABULARY: Final = 32 << 20
"""Bytes of all tokens."""
MAX_LAYERS: Final = 512
MAX_WIDTH: Final = 1 << 17
MAX_FEED_FORWARD: Final = 1 << 20
MAX_NAME: Final = 256
MAX_PARTS: Final = 64
"""65 billion weights came in 8."""
_WINDOW: Final = 4096
"""Read ahead: between two tensors of weights little is read."""
_ALIGNMENT: Final = 32
_NUMBERED: Final = re.compile(r"(?P<base>.+)\.(?P<number>[1-9]\d?)")
_UNUSED: Final = re.compile(r"(?:.+\.)?rope\.freqs")
"""Tensors that some converters wrote, and that follow from the numbers."""
_BY_COLUMNS: Final = re.compile(r"tok_embeddings\.weight|.+\.(?:attention\.wo|feed_forward\.w2)\.weight")
"""Of a model in parts, tensors of which each part has some columns; of other matrices it has some rows."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Which of the formats it is. version: 0 for the unversioned."""

    name: str
    version: int = 0

    @property
    def label(self) -> str:
        """As people call it."""
        return f"{self.name} v{self.version}" if self.version else f"{self.name} (unversioned)"

    @property
    def scored(self) -> bool:
        """Whether tokens have scores."""
        return self.version > 0

    @property
    def aligned(self) -> bool:
        """Whether weights begin at multiples of 32."""
        return self.name == "GGJT"

    @property
    def codings(self) -> Mapping[int, Coding]:
        """How weights are coded, by the number in the file."""
        return {3: THIRD, 2: SECOND}.get(self.version, FIRST)


GENERATIONS: Final[Mapping[bytes, tuple[str, tuple[int, ...]]]] = {
    b"lmgg": ("GGML", ()),
    b"fmgg": ("GGMF", (1,)),
    b"tjgg": ("GGJT", (1, 2, 3)),
}
"""Magic -> name and versions."""


class Numbers(NamedTuple):
    """The seven numbers, in their order."""

    vocabulary: int
    embedding: int
    multiple: int
    heads: int
    layers: int
    rotated: int
    file_type: int


class Piece(NamedTuple):
    """Where a tensor's weights, or a part's share of them, begin."""

    path: Path
    offset: int


class LegacyTensor(NamedTuple):
    """A tensor, put together of all parts.

    shape: sizes, fastest first. pieces: one after the other, or, where `by_columns`, side by side in every row.
    """

    name: str
    shape: tuple[int, ...]
    coding: Coding
    pieces: tuple[Piece, ...]
    by_columns: bool = False

    @property
    def elements(self) -> int:
        """Their number."""
        rows = self.shape[1] if len(self.shape) > 1 else 1
        return self.shape[0] * rows

    @property
    def size_bytes(self) -> int:
        """In the old files."""
        return self.coding.size(self.elements)


class Token(NamedTuple):
    """A token as it is written, and its score; 0 where the file has none."""

    text: bytes
    score: float


@dataclass(frozen=True, slots=True)
class LegacyFile:
    """A whole model. paths: its files, in order. tokens: empty where they were not asked for."""

    paths: tuple[Path, ...]
    size_bytes: int
    generation: Generation
    numbers: Numbers
    tensors: Mapping[str, LegacyTensor]
    tokens: tuple[Token, ...] = ()


class NotLlama(Exception):
    """The file is of another family of models, or none can be told. seen: by what."""

    def __init__(self, seen: str) -> None:
        super().__init__(seen)
        self.seen = seen


def first_part(path: Path) -> Path:
    """The file that stands for the model: of `NAME.2`, where it belongs to one, `NAME`."""
    found = _NUMBERED.fullmatch(path.name)
    base = path.with_name(found["base"]) if found else path
    return base if base != path and base.is_file() else path


def start_of(cursor: Cursor) -> tuple[Generation, Numbers]:
    """What a file begins with. Raises CorruptFile; UnsupportedFormat for a version that never was LLaMA's."""
    name, versions = GENERATIONS[cursor.raw(4, "the magic")]
    version = 0
    if versions:
        version = cursor.number("I", "the version")
        if version not in versions:
            rwkv = f"; {name} {version} is what rwkv.cpp wrote, and no engine here runs" if 100 <= version < 110 else ""
            raise UnsupportedFormat(
                cursor.path, f"{name} version {version}; {name} had version {versions[0]} to {versions[-1]}{rwkv}"
            )
    numbers = cursor.numbers("I", len(Numbers._fields), "the model's seven numbers")
    return Generation(name, version), Numbers(*map(int, numbers))


def plausible(numbers: Numbers) -> bool:
    """Whether these can be a LLaMA's numbers; other models of that time had others in their places."""
    return (
        2 < numbers.vocabulary <= MAX_TOKENS
        and 0 < numbers.layers <= MAX_LAYERS
        and 0 < numbers.heads <= 512
        and 0 < numbers.embedding <= MAX_WIDTH
        and 0 < numbers.multiple <= MAX_WIDTH
        and numbers.embedding % numbers.heads == 0
    )


def read_file(path: Path, *, vocabulary: bool = False) -> LegacyFile:
    """The model that a file is, or begins. vocabulary: its tokens too.

    Raises NotLlama; CorruptFile where it is cut short or not what the format says, MissingShard, UnsupportedFormat.
    """
    first = _part(path, vocabulary)
    embeddings = first.tensors.get("tok_embeddings.weight")
    if embeddings is None:
        raise NotLlama(f"the tensor {next(iter(first.tensors), 'of no name')}")
    width = embeddings.shape[0]
    if not width or first.numbers.embedding % width or first.numbers.embedding // width > MAX_PARTS:
        wish = f"{first.numbers.embedding}, or the same share of it in every part"
        raise CorruptFile(path, f"tok_embeddings.weight has rows of {width}", wish)
    return _whole(first, [_part(one, False) for one in _others(path, first.numbers.embedding // width)])


def _others(path: Path, count: int) -> list[Path]:
    found = _NUMBERED.fullmatch(path.name)
    if found and count > 1:  # or `first_part` would have found the one that it belongs to
        raise MissingShard(path, [found["base"]])
    wanted = [path.with_name(f"{path.name}.{number}") for number in range(1, count)]
    if missing := [one.name for one in wanted if not one.is_file()]:
        raise MissingShard(path, missing)
    return wanted


def _whole(first: LegacyFile, others: list[LegacyFile]) -> LegacyFile:
    """All parts as one model."""
    for other in others:
        path = other.paths[0]
        if (other.generation, other.numbers) != (first.generation, first.numbers):
            raise CorruptFile(path, f"it is {other.generation.label} with {other.numbers}", f"what {first.paths[0]} is")
        for name, tensor in first.tensors.items():
            mine = other.tensors.get(name)
            if mine is None or mine.shape != tensor.shape or mine.coding != tensor.coding:
                raise CorruptFile(path, f"its share of {name} is another than in {first.paths[0].name}")
    parts = (first, *others)
    return LegacyFile(
        tuple(part.paths[0] for part in parts),
        sum(part.size_bytes for part in parts),
        first.generation,
        first.numbers,
        {name: _joined(tensor, [part.tensors[name] for part in parts]) for name, tensor in first.tensors.items()},
        first.tokens,
    )


def _joined(tensor: LegacyTensor, shares: list[LegacyTensor]) -> LegacyTensor:
    if len(shares) == 1 or len(tensor.shape) == 1:  # vectors are in every part, all of them
        return tensor
    columns, rows = tensor.shape
    by_columns = _BY_COLUMNS.fullmatch(tensor.name) is not None
    shape = (columns * len(shares), rows) if by_columns else (columns, rows * len(shares))
    return tensor._replace(
        shape=shape, pieces=tuple(piece for share in shares for piece in share.pieces), by_columns=by_columns
    )


def _part(path: Path, vocabulary: bool) -> LegacyFile:
    """One file, its tensors as it has them."""
    with opened(path) as (file, size):
        cursor = Cursor(path, file, size, window=_WINDOW)
        generation, numbers = start_of(cursor)
        if not plausible(numbers):
            raise NotLlama("numbers that are not those of a Llama")
        # Every token has at least its length.
        if numbers.vocabulary * 4 > size:
            wish = f"room for the {numbers.vocabulary} tokens that it claims"
            raise CorruptFile(path, f"the file has {size} bytes", wish)
        tokens = _tokens(cursor, generation, numbers.vocabulary, keep=vocabulary)
        tensors: dict[str, LegacyTensor] = {}
        while cursor.left:
            tensor = _tensor(cursor, generation, most=12 * numbers.layers + 16 - len(tensors))
            if tensor.name in tensors:
                raise CorruptFile(path, f"the tensor {tensor.name} comes twice", "each once", cursor.at)
            if not _UNUSED.fullmatch(tensor.name):
                tensors[tensor.name] = tensor
    return LegacyFile((path,), size, generation, numbers, tensors, tokens)


def _tokens(cursor: Cursor, generation: Generation, count: int, *, keep: bool) -> tuple[Token, ...]:
    tokens, budget = [], MAX_VOCABULARY
    for number in range(count):
        begin = cursor.at
        length = cursor.number("I", f"the length of token {number}")
        budget -= length
        if length > MAX_TOKEN or budget < 0:
            wish = f"at most {MAX_TOKEN}, and {MAX_VOCABULARY >> 20} MiB in all"
            raise CorruptFile(cursor.path, f"token {number} has {length} bytes", wish, begin)
        text = cursor.raw(length, f"token {number}")
        score = cursor.scalar("f", f"the score of token {number}") if generation.scored else 0.0
        if keep:
            tokens.append(Token(text, float(score)))
    return tuple(tokens)


def _tensor(cursor: Cursor, generation: Generation, most: int) -> LegacyTensor:
    """The next tensor's head; its weights are stepped over."""
    begin = cursor.at
    if most <= 0:
        raise CorruptFile(cursor.path, "it has more tensors than layers of a Llama have", offset=begin)
    rank, length, kind = (int(number) for number in cursor.numbers("I", 3, "the head of a tensor"))
    if not 1 <= rank <= 2 or not 0 < length <= MAX_NAME:
        read = f"a tensor of {rank} dimensions with a name of {length} bytes"
        raise CorruptFile(cursor.path, read, f"1 or 2, and at most {MAX_NAME}", begin)
    shape = tuple(int(size) for size in cursor.numbers("I", rank, "the shape of a tensor"))
    name = cursor.raw(length, "the name of a tensor").decode("utf-8", "replace")
    coding = generation.codings.get(kind)
    if coding is None:
        known = ", ".join(f"{number} ({coding.name})" for number, coding in sorted(generation.codings.items()))
        raise CorruptFile(cursor.path, f"the tensor {name!r} has type {kind}", f"one of {known}", begin)
    if shape[0] % coding.block:
        wish = f"a multiple of {coding.block} for {coding.name}"
        raise CorruptFile(cursor.path, f"the tensor {name!r} has rows of {shape[0]}", wish, begin)
    if generation.aligned:
        cursor.skip(-cursor.at % _ALIGNMENT, f"the padding before {name}")
    tensor = LegacyTensor(name, shape, coding, (Piece(cursor.path, cursor.at),))
    if tensor.size_bytes > cursor.left:
        end = cursor.at + tensor.size_bytes
        wish = f"{end} at least, where the tensor {name!r} ends; it is truncated, download it again"
        raise CorruptFile(cursor.path, f"the file has {cursor.size} bytes", wish)
    cursor.skip(tensor.size_bytes, f"the weights of {name}")
    return tensor
