"""Text from tokens: every kind of tokenizer's pieces, and characters over the borders of tokens."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from uml.engines.hosted.pieces import pieces_of
from uml.engines.hosted.text import Text, decode

BYTE_LEVEL: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {"a": 0, "Ġb": 1, "Ċ": 2, "ã": 3, "ģ": 4, "Ĥ": 5}},
    "decoder": {"type": "ByteLevel"},
    "added_tokens": [{"id": 6, "content": "<|end|>"}],
}
SENTENCEPIECE: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {"<s>": 0, "▁the": 1, "re": 2, "<0x0A>": 3, "<0xE3>": 4}},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace"}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
}


def test_bytes_of_gpt2_are_read_from_their_letters() -> None:
    assert pieces_of(BYTE_LEVEL, 8) == [b"a", b" b", b"\n", b"\xe3", b"\x81", b"\x82", b"<|end|>", b""]


def test_sentencepiece_writes_blanks_and_bytes_its_own_way() -> None:
    assert pieces_of(SENTENCEPIECE, 5) == [b"<s>", b" the", b"re", b"\n", b"\xe3"]


def test_unigram_models_have_a_list() -> None:
    tokenizer = {
        "model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["▁a", -1.0]]},
        "decoder": {"type": "Metaspace"},
    }
    assert pieces_of(tokenizer, 2) == [b"<unk>", b" a"]


def test_wordpiece_joins_parts_of_words() -> None:
    tokenizer = {"model": {"type": "WordPiece", "vocab": {"play": 0, "##ing": 1}}, "decoder": {"type": "WordPiece"}}
    assert decode(pieces_of(tokenizer, 2), [0, 1]) == " playing"


def test_a_character_comes_with_its_last_byte() -> None:
    text = Text(pieces_of(BYTE_LEVEL, 7), {6})
    assert [text.feed([token]) for token in (0, 3, 4, 5, 6, 1)] == ["a", "", "", "あ", "", " b"]
    assert text.end() == ""


def test_a_character_that_is_cut_off_is_shown_as_one() -> None:
    text = Text(pieces_of(BYTE_LEVEL, 7), set())
    assert text.feed([0, 3, 4]) + text.end() == "a\ufffd"


@given(st.text(max_size=30), st.integers(1, 5))
def test_any_text_in_any_pieces_is_the_same(text: str, size: int) -> None:
    data = text.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    reader = Text(pieces, set())
    assert "".join(reader.feed([token]) for token in range(len(pieces))) + reader.end() == text
