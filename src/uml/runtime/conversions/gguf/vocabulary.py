"""A tokenizer as GGUF metadata: which of llama.cpp's kinds it is, and what it needs to be told.

llama.cpp cuts texts by itself. What it cannot cut as the tokenizer does is refused; where only rare texts differ, a
note says so.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from uml.formats.bounded_json import child, text
from uml.formats.gguf.values import flag, texts, u8s, u32
from uml.formats.gguf.values import text as string
from uml.runtime.conversions.gguf import pieces, splitting
from uml.runtime.conversions.gguf.rope import Untold
from uml.runtime.conversions.gguf.source import Json, Source
from uml.runtime.conversions.gguf.special import special_keys
from uml.runtime.conversions.gguf.tokens import SPACE, Added, Kind, Tokens, added_tokens, pairs

FEW: Final = 0.01
"""Merges that may be missing among all that are possible, as a share."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """keys: whole metadata. notes: what differs, in sentences."""

    keys: dict[str, bytes]
    notes: tuple[str, ...]


def vocabulary(source: Source, count: int) -> Vocabulary:
    """The tokenizer of a folder. count: rows of the embedding. Raises Untold, BadFile, CorruptFile."""
    model = child(source.tokenizer, "model")
    kind = text(model, "type") or ("BPE" if "merges" in model else "")
    if kind == "BPE" and splitting.byte_level(source.tokenizer):
        return _bytes(source, model, count)
    if kind == "Unigram":
        return _unigram(source, model, count)
    if kind == "WordPiece":
        return _wordpieces(source, model, count)
    path = source.folder / "tokenizer.model"
    if path.exists():
        return _sentencepiece(source, pieces.read(path), count)
    if kind == "BPE" and model.get("byte_fallback") is True:
        return _sentencepiece(source, _told_by_merges(source, model), count)
    if not source.tokenizer:
        raise Untold("a tokenizer without tokenizer.json or tokenizer.model")
    raise Untold(f"a tokenizer of the kind {kind or 'unknown'}")


def _numbers(model: Json) -> dict[str, int]:
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not all(isinstance(number, int) for number in vocab.values()):
        raise Untold("a tokenizer without a vocabulary")
    return vocab


def _bytes(source: Source, model: Json, count: int) -> Vocabulary:
    """Bytes written as letters, and merged: GPT-2's kind."""
    try:
        cut = splitting.name(source.tokenizer)
    except splitting.Unknown as error:
        raise Untold(str(error)) from error
    vocab, added = _numbers(model), added_tokens(source)
    tokens = Tokens.empty(count)
    for piece, number_ in vocab.items():
        tokens.put(number_, piece, Kind.NORMAL)
    tokens.add(added)
    # A space inside a merge could not be told from the one between its parts; bytes are written without.
    merges = [f"{first} {second}".replace("  ", " ") for first, second in pairs(model.get("merges"))]
    keys = {"tokenizer.ggml.model": string("gpt2"), "tokenizer.ggml.pre": string(cut)}
    keys |= tokens.keys(scored=False) | {"tokenizer.ggml.merges": texts(merges)}
    keys |= special_keys(source, _all(vocab, added), count, begins=False)
    known = (splitting.NOTES[cut],) if cut in splitting.NOTES else ()
    return Vocabulary(keys, (*known, *tokens.notes, *_normalized(source, ())))


def _all(vocab: Mapping[str, int], added: Mapping[int, Added]) -> dict[str, int]:
    return {**vocab, **{token.content: number for number, token in added.items()}}


def _normalized(source: Source, known: tuple[str, ...]) -> tuple[str, ...]:
    """A note where texts are changed before they are cut, which llama.cpp does not do."""
    kinds = [kind for kind in _normalizers(child(source.tokenizer, "normalizer")) if kind not in known]
    if not kinds:
        return ()
    told = ", ".join(kinds)
    return (
        f"texts are brought into one form first ({told}), which llama.cpp does not do: rare ones are cut otherwise",
    )


def _normalizers(normalizer: Json) -> list[str]:
    inner = normalizer.get("normalizers")
    if isinstance(inner, list):
        return [kind for one in inner if isinstance(one, dict) for kind in _normalizers(one)]
    return [kind] if (kind := text(normalizer, "type")) else []


def _told_by_merges(source: Source, model: Json) -> pieces.Pieces:
    """Pieces of SentencePiece out of the merges that were made of them: the earlier a merge, the better the piece.

    SentencePiece merges whatever makes the best piece, tokenizers what its list says: they agree where the list has
    every way to make a piece. Raises Untold where many are missing.
    """
    vocab = _numbers(model)
    known = set(pairs(model.get("merges")))
    ranks: dict[str, int] = {}
    for rank, (first, second) in enumerate(pairs(model.get("merges"))):
        ranks.setdefault(first + second, rank)
    outside = {token.content for token in added_tokens(source).values()}
    ways = missing = 0
    for piece in vocab:
        if piece in outside or pieces.is_byte(piece):
            continue
        for at in range(1, len(piece)):
            if piece[:at] in vocab and piece[at:] in vocab:
                ways += 1
                missing += (piece[:at], piece[at:]) not in known
    if missing > FEW * ways:
        raise Untold(f"merges of which {missing} of {ways} are missing for SentencePiece")
    unknown = text(model, "unk_token")
    listed = [
        pieces.Piece(piece, -float(ranks.get(piece, len(known))), _piece_kind(piece, unknown), number_)
        for piece, number_ in vocab.items()
    ]
    note = f"{missing} of {ways} ways to merge are not in its list: rare words may be cut in another way"
    return pieces.Pieces(listed, _prefixed(source), (note,) if missing else ())


def _piece_kind(piece: str, unknown: str) -> Kind:
    if piece == unknown:
        return Kind.UNKNOWN
    return Kind.BYTE if pieces.is_byte(piece) else Kind.NORMAL


def _prefixed(source: Source) -> bool | None:
    """Whether texts are cut with a space before them; None where tokenizer.json does not say."""
    if not source.tokenizer:
        return None
    normalizer, cut = child(source.tokenizer, "normalizer"), child(source.tokenizer, "pre_tokenizer")
    if "Prepend" in _normalizers(normalizer):
        return True
    return _metaspaced(cut)


def _sentencepiece(source: Source, found: pieces.Pieces, count: int) -> Vocabulary:
    """Pieces with scores, merged best first, and bytes for what is left: SentencePiece's BPE."""
    if found.unigram:
        raise Untold("a Unigram model of SentencePiece without its tokenizer.json")
    tokens, added = Tokens.empty(count), added_tokens(source)
    for piece in found.pieces:
        tokens.put(piece.number, piece.text, piece.kind, piece.score)
    tokens.add({number: token for number, token in added.items() if not _keeps(tokens, number, token)})
    prefixed = _prefixed(source)
    prefixed = found.prefixed if prefixed is None else prefixed
    keys = {"tokenizer.ggml.model": string("llama"), "tokenizer.ggml.pre": string("default")}
    keys |= tokens.keys(scored=True)
    keys["tokenizer.ggml.add_space_prefix"] = flag(prefixed is not False)
    numbers = _all({piece.text: piece.number for piece in found.pieces}, added)
    keys |= special_keys(source, numbers, count, begins=True)
    metaspaced = prefixed and "Metaspace" in _steps(child(source.tokenizer, "pre_tokenizer"))
    first = ("texts that begin with a space get one more before them, which Transformers does not give",)
    notes = (*found.notes, *(first if metaspaced else ()), *tokens.notes)
    return Vocabulary(keys, (*notes, *_normalized(source, ("Prepend", "Replace"))))


def _keeps(tokens: Tokens, number_: int, token: Added) -> bool:
    """Whether the token for what is unknown stays that."""
    known = number_ < len(tokens.kinds) and tokens.kinds[number_] == Kind.UNKNOWN
    return known and tokens.pieces[number_] == token.content


def _unigram(source: Source, model: Json, count: int) -> Vocabulary:
    """The likeliest way to cut: SentencePiece's Unigram, which llama.cpp calls t5."""
    listed = model.get("vocab")
    if not isinstance(listed, list) or not all(isinstance(one, list) and len(one) == 2 for one in listed):
        raise Untold("a tokenizer without a vocabulary")
    unknown, added, tokens = model.get("unk_id"), added_tokens(source), Tokens.empty(count)
    for number_, (piece, score) in enumerate(listed):
        plain = Kind.BYTE if model.get("byte_fallback") is True and pieces.is_byte(str(piece)) else Kind.NORMAL
        tokens.put(number_, str(piece), Kind.UNKNOWN if number_ == unknown else plain, float(score))
    tokens.add({number_: token for number_, token in added.items() if number_ != unknown})
    for number_ in added:
        if number_ < count:
            tokens.scores[number_] = 0.0
    cut, normalizer = child(source.tokenizer, "pre_tokenizer"), child(source.tokenizer, "normalizer")
    keys = {"tokenizer.ggml.model": string("t5"), "tokenizer.ggml.pre": string("default")}
    keys |= tokens.keys(scored=True)
    keys["tokenizer.ggml.add_space_prefix"] = flag(_metaspaced(cut))
    split = "WhitespaceSplit" in _steps(cut)
    keys["tokenizer.ggml.remove_extra_whitespaces"] = flag(split or "Replace" in _normalizers(normalizer))
    if charsmap := _charsmap(normalizer):
        keys["tokenizer.ggml.precompiled_charsmap"] = u8s(charsmap)
    if isinstance(unknown, int) and 0 <= unknown < count:
        keys["tokenizer.ggml.unknown_token_id"] = u32(unknown)
    numbers = _all({str(piece): number_ for number_, (piece, _) in enumerate(listed)}, added)
    # Where nothing is said, llama.cpp would end texts of this kind.
    keys |= {"tokenizer.ggml.add_eos_token": flag(False), **special_keys(source, numbers, count, begins=False)}
    last = () if split else ("spaces at the end of a text are dropped, which Transformers keeps",)
    return Vocabulary(keys, (*tokens.notes, *last, *_normalized(source, ("Precompiled", "Replace", "Strip"))))


def _steps(cut: Json) -> list[str]:
    """What cuts, by kind."""
    inner = cut.get("pretokenizers")
    if isinstance(inner, list):
        return [kind for one in inner if isinstance(one, dict) for kind in _steps(one)]
    return [kind] if (kind := text(cut, "type")) else []


def _metaspaced(cut: Json) -> bool:
    """Whether a space is put before texts."""
    inner = cut.get("pretokenizers")
    if isinstance(inner, list):
        return any(_metaspaced(one) for one in inner if isinstance(one, dict))
    if text(cut, "type") != "Metaspace":
        return False
    return text(cut, "prepend_scheme") in ("always", "first") or cut.get("add_prefix_space") is True


def _charsmap(normalizer: Json) -> bytes:
    inner = normalizer.get("normalizers")
    if isinstance(inner, list):
        return next((found for one in inner if isinstance(one, dict) and (found := _charsmap(one))), b"")
    try:
        return base64.b64decode(text(normalizer, "precompiled_charsmap"), validate=True)
    except binascii.Error as error:
        raise Untold("a table of characters that is no base64 (precompiled_charsmap)") from error


def _wordpieces(source: Source, model: Json, count: int) -> Vocabulary:
    """The longest pieces from the left: BERT's. llama.cpp marks beginnings of words, BERT what goes on."""
    vocab, added = _numbers(model), added_tokens(source)
    if text(model, "continuing_subword_prefix") != "##":
        raise Untold(f"word pieces that go on with {text(model, 'continuing_subword_prefix')!r}")
    tokens = Tokens.empty(count)
    for piece, number_ in vocab.items():
        tokens.put(number_, piece[2:] if piece.startswith("##") else SPACE + piece, Kind.NORMAL)
    tokens.add(added)
    keys = {"tokenizer.ggml.model": string("bert"), "tokenizer.ggml.pre": string("default")}
    keys |= tokens.keys(scored=False)
    normalizer = child(source.tokenizer, "normalizer")
    lower = normalizer.get("lowercase") is True
    accents = normalizer.get("strip_accents")
    keys["tokenizer.ggml.normalizer.lowercase"] = flag(lower)
    keys["tokenizer.ggml.normalizer.strip_accents"] = flag(accents if isinstance(accents, bool) else lower)
    keys |= special_keys(source, _all(vocab, added), count, begins=True)
    apart = ("Korean is not taken apart into its letters, as Transformers does: its texts are cut otherwise",)
    return Vocabulary(keys, (*(apart if lower else ()), *tokens.notes, *_normalized(source, ("BertNormalizer",))))
