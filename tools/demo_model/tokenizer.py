"""Trains the demo model's tokenizer: byte-level BPE, split as Qwen2 splits.

    python -m tools.demo_model.tokenizer OUT/tokenizer.json --seed 1

The same texts and size give the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tools.demo_model.documents import Spans, documents

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT, TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# Control tokens frame the chat: an engine never prints them. Their ids are 0, 1 and 2.
CONTROL = (END_OF_TEXT, TURN, END_OF_TURN)
# Markers are single tokens too, and printed: an engine finds reasoning and calls by their text.
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

PAD_ID, EOS_ID = CONTROL.index(END_OF_TEXT), CONTROL.index(END_OF_TURN)

VOCABULARY = 2000
DOCUMENTS = 20_000

# llama.cpp's pattern for `tokenizer.ggml.pre = qwen2`. Qwen2's own writes the contractions as
# (?i:'s|...), which also takes U+017F for an s: the two then disagree on rare text.
SPLIT = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_NAMED = re.compile("|".join(map(re.escape, (*CONTROL, *MARKERS))))


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """A tokenizer of at most `vocabulary` entries: named tokens, 256 bytes, then merges by frequency."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    splitting = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern=_regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = splitting
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*CONTROL, *MARKERS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(_without_named_tokens(texts), trainer)

    # The trainer marks every named token as control; the markers must not be.
    tokenizer = Tokenizer(learner.model)
    tokenizer.pre_tokenizer = splitting
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in CONTROL])
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in MARKERS])
    return tokenizer


def _regex(pattern: str) -> object:
    from tokenizers import Regex

    return Regex(pattern)


def _without_named_tokens(texts: Iterable[str]) -> Iterator[str]:
    """The text between named tokens: else their letters would earn merges that are never used."""
    for text in texts:
        yield from filter(None, _NAMED.split(text))


def text_of(spans: Spans) -> str:
    """A document as one string."""
    return "".join(span.text for span in spans)


def main() -> None:
    """Command line door."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="file to write, usually tokenizer.json")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="how many to learn from")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY, help="entries at most")
    arguments = parser.parse_args()
    texts = map(text_of, itertools.islice(documents(arguments.seed, "train"), arguments.documents))
    tokenizer = train_tokenizer(texts, arguments.vocabulary)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(arguments.out))
    print(f"{arguments.out}: {tokenizer.get_vocab_size():,} entries")


if __name__ == "__main__":
    main()
