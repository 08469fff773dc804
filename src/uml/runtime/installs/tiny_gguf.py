"""The tiny model as one GGUF file, for llama.cpp: its rows of heads in the order of GGUF, and nothing rounded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from uml.formats.gguf import values
from uml.formats.gguf.head import ALIGNMENT, head, laid_out, padded
from uml.runtime.conversions.gguf.families import DECODER
from uml.runtime.installs import tiny
from uml.runtime.installs.tiny import Matrix

FILE: Final = "tiny.gguf"
_F32: Final = 0
_NORMAL, _CONTROL = 1, 3
_NAMES: Final = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    **DECODER,
}


def write(folder: Path) -> Path:
    """Write the model into a folder, which is made; gives the file. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    named = [(_name(name), _paired(name, rows)) for name, rows in tiny.weights()]
    tensors = laid_out((values.tensor(name, _shape(rows), _F32) for name, rows in named), ALIGNMENT)
    file = folder / FILE
    with file.open("wb") as out:
        out.write(head(_metadata(), tensors, ALIGNMENT))
        for _, rows in named:
            numbers = [*chain.from_iterable(rows)]
            raw = struct.pack(f"<{len(numbers)}f", *numbers)
            out.write(raw.ljust(padded(len(raw), ALIGNMENT), b"\0"))
    return file


def _shape(rows: Matrix) -> tuple[int, ...]:
    return (len(rows[0]), len(rows)) if len(rows) > 1 else (len(rows[0]),)


def _name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in _NAMES:
        return f"{_NAMES[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_NAMES[part]}.weight"


def _paired(name: str, rows: Matrix) -> Matrix:
    """Queries and keys turn in pairs of neighbours there, and by halves of a head here."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return rows
    half = tiny.HEAD // 2
    return [
        rows[begin + place + side]
        for begin in range(0, len(rows), tiny.HEAD)
        for place in range(half)
        for side in (0, half)
    ]


def _metadata() -> dict[str, bytes]:
    return dict(_pairs())


def _pairs() -> Iterator[tuple[str, bytes]]:
    yield "general.architecture", values.text("llama")
    yield "general.name", values.text("tiny")
    yield "general.file_type", values.u32(_F32)
    for name, count in (
        ("context_length", tiny.CONTEXT),
        ("embedding_length", tiny.HIDDEN),
        ("block_count", tiny.LAYERS),
        ("feed_forward_length", tiny.FEED),
        ("attention.head_count", tiny.HEADS),
        ("attention.head_count_kv", tiny.KV_HEADS),
        ("attention.key_length", tiny.HEAD),
        ("attention.value_length", tiny.HEAD),
        ("rope.dimension_count", tiny.HEAD),
        ("vocab_size", tiny.WORDS),
    ):
        yield f"llama.{name}", values.u32(count)
    yield "llama.attention.layer_norm_rms_epsilon", values.f32(tiny.EPSILON)
    yield "llama.rope.freq_base", values.f32(tiny.THETA)
    yield "tokenizer.ggml.model", values.text("gpt2")
    yield "tokenizer.ggml.pre", values.text("gpt-2")
    yield "tokenizer.ggml.tokens", values.texts(tiny.CHARACTERS)
    yield "tokenizer.ggml.token_type", values.i32s([_NORMAL] * (tiny.WORDS - 1) + [_CONTROL])
    yield "tokenizer.ggml.merges", values.texts(())
    yield "tokenizer.ggml.eos_token_id", values.u32(tiny.WORDS - 1)
    yield "tokenizer.ggml.add_bos_token", values.flag(False)
