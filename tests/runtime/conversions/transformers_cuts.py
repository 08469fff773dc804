"""Small tokenizers of many kinds, and how Transformers cuts random texts with them: run by its interpreter.

`python transformers_cuts.py OUT`. For each kind a folder OUT/NAME with a tiny Llama of that vocabulary, `texts.json`,
`plain.json`, the tokens of each text, and `whole.json`, those with what begins and ends it. Texts are of scripts that
Unicode has had for long: llama.cpp and tokenizers bring different tables of it.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)  # fmt: skip

ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s"
SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
EXPRESSIONS = {
    "llama-bpe": (rf"{ENDINGS}|{WORD}|\p{{N}}{{1,3}}|{SIGNS}|{SPACES}",),
    "smaug-bpe": (rf"{ENDINGS}|{WORD}|\p{{N}}{{1,3}}|{SIGNS}|{SPACES}",),
    "qwen2": (rf"{ENDINGS}|{WORD}|\p{{N}}|{SIGNS}|{SPACES}",),
    "qwen35": (
        rf"{ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}",
    ),
    "tekken": (rf"{CASED % ('', '')}|\p{{N}}|{SLASHED}|{SPACES}",),
    "gpt-4o": (rf"{CASED % (ENDINGS + '?', ENDINGS + '?')}|\p{{N}}{{1,3}}|{SLASHED}|{SPACES}",),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
        rf"|{SPACES}",
    ),
}
BLOCKS = (
    (0x20, 0x7E), (0x20, 0x7E), (0xA1, 0xFF), (0x100, 0x17F), (0x370, 0x3FF), (0x400, 0x45F), (0x5D0, 0x5EA),
    (0x621, 0x64A), (0x905, 0x939), (0xE01, 0xE3A), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5),
    (0xAC00, 0xD7A3), (0x2010, 0x2027), (0x2190, 0x21FF), (0x1F300, 0x1F5FF), (0x300, 0x36F), (0x660, 0x669),
    (0xFF01, 0xFF5E), (0x20A0, 0x20BF), (0x1D400, 0x1D454),
)  # fmt: skip
WORDS = ("the", "cat's", "Don't", "we'LL", "2024", "12345", " ", "  ", "\n", "\n\n", "\t", "...", "naïve", "x=1;", "//")


def texts(seed: int, count: int, blocks: tuple[tuple[int, int], ...] = BLOCKS) -> list[str]:
    """Random texts: words, signs and characters of many scripts, with spaces and line ends between them."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        parts = []
        for _ in range(chance.randrange(1, 14)):
            if chance.random() < 0.5:
                parts.append(chance.choice(WORDS))
            else:
                block = chance.choice(blocks)
                drawn = [chr(chance.randint(*block)) for _ in range(chance.randrange(1, 5))]
                parts.append("".join(one for one in drawn if unicodedata.category(one) != "Cn"))
            parts.append(chance.choice(("", "", " ", "  ", "\n")))
        found.append("".join(parts))
    return found


def byte_level(name: str) -> Tokenizer:
    """Merged bytes, cut as `name` says."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name in ("llama-bpe", "tekken")))
    if name in EXPRESSIONS:
        splits = [pre_tokenizers.Split(Regex(one), "isolated") for one in EXPRESSIONS[name]]
        cut = [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    else:
        digits = [pre_tokenizers.Digits(individual_digits=True)] if name == "smollm" else []
        cut = [*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cut) if len(cut) > 1 else cut[0]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=["<s>", "</s>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(1, 2000), trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    if name in ("llama-bpe", "tekken"):
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
        )
    if name == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def sentencepiece(name: str) -> Tokenizer:
    """Pieces of SentencePiece as Transformers writes them down: every way to make a piece is a merge."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=[], show_progress=False, limit_alphabet=500)
    trained.train_from_iterator([text.replace("\n", " ") for text in texts(2, 1500, BLOCKS[:8])], trainer)
    learned = [piece for piece, _ in sorted(trained.get_vocab().items(), key=lambda pair: pair[1])]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    singles = [piece for piece in learned if len(piece) == 1]
    vocab = {piece: number for number, piece in enumerate(pieces + [p for p in learned if len(p) > 1] + singles)}
    merges = [
        (vocab[piece], at, piece)
        for piece in learned
        for at in range(1, len(piece))
        if piece[:at] in vocab and piece[at:] in vocab
    ]
    made = [(piece[:at], piece[at:]) for _, at, piece in sorted(merges)]
    tokenizer = Tokenizer(models.BPE(vocab, made, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaced = normalizers.Replace(" ", "\u2581")
    if name == "spm-prefixed":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaced])
    elif name == "spm-metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = spaced
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return tokenizer


def word_pieces(name: str) -> Tokenizer:
    """BERT's, of letters that are small or not."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=name == "wordpiece")
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts(3, 1500), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def table_of_characters(known: dict[str, str]) -> bytes:
    """A table of SentencePiece's (precompiled_charsmap) that writes single ASCII characters in another way.

    A double array of 32-bit units, as of Darts: the root's children lie at its offset xor their byte, the value of
    each at its own offset. Texts follow, each ended by a zero.
    """
    units, texts_, root = [0] * 1024, b"", 256
    units[0] = root << 10
    for number, (one, other) in enumerate(known.items()):
        at, leaf = root ^ ord(one), 600 + number
        units[at] = ((at ^ leaf) << 10) | 1 << 8 | ord(one)
        units[leaf] = 1 << 31 | len(texts_)
        texts_ += other.encode() + b"\0"
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + texts_


def unigram(name: str) -> Tokenizer:
    """The likeliest pieces, as XLM-RoBERTa has them; and as others have them, who keep spaces at the end."""
    tokenizer = Tokenizer(models.Unigram())
    if name == "unigram":
        tokenizer.normalizer = normalizers.Precompiled(table_of_characters({"\n": " ", "\t": " ", "x": "yz"}))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
    else:
        tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([text.replace("\n", " ") for text in texts(4, 1500, BLOCKS[:8])], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


KINDS: dict[str, Callable[[str], Tokenizer]] = {
    **dict.fromkeys((*EXPRESSIONS, "gpt-2", "smollm"), byte_level),
    **dict.fromkeys(("spm-prefixed", "spm-metaspace", "spm-bare"), sentencepiece),
    **dict.fromkeys(("wordpiece", "wordpiece-cased"), word_pieces),
    **dict.fromkeys(("unigram", "unigram-spaces"), unigram),
    "roberta": byte_level,
}
NAMES = {
    "wordpiece": {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"},
    "unigram": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
}


def make(out: Path, name: str) -> None:
    """One kind."""
    folder = out / name
    plain = {"bos_token": "<s>", "eos_token": "</s>"}
    named = NAMES.get(name.partition("-")[0], plain)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=KINDS[name](name), **named)
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    asked = texts(9, 300)
    (out / f"{name}.texts.json").write_text(json.dumps(asked))
    for kind, special in (("plain", False), ("whole", True)):
        found = [tokenizer(text, add_special_tokens=special)["input_ids"] for text in asked]
        (out / f"{name}.{kind}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    for kind in sys.argv[2:] or KINDS:
        make(Path(sys.argv[1]), kind)
