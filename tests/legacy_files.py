"""Writes model files from before GGUF as the programs of those days did, weights in their blocks, whole or in parts.

Layouts are those of llama.cpp's ggml.c at the commits that `uml.formats.legacy.coding` names; numbers are packed by
rounding, which is not always what its quantizers chose, and is read by the same rules.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

MAGICS: Final = {"ggml": (b"lmgg", 0), "ggmf": (b"fmgg", 1)} | {f"ggjt{n}": (b"tjgg", n) for n in (1, 2, 3)}
TYPES: Final = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q4_2": 4, "Q4_3": 5, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8}
K_TYPES: Final = {"Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}
K_SIZES: Final = {"Q2_K": 84, "Q3_K": 110, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
"""Bytes of 256 numbers; what they mean is nothing to us, for they go through as they are."""
FILE_TYPES: Final = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q4_2": 5, "Q4_3": 6, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9}


def _nibbles(numbers: NDArray[Any], paired: bool) -> NDArray[Any]:
    """Two numbers a byte: neighbours, or those half a block apart."""
    half = numbers.shape[1] // 2
    low, high = (numbers[:, 0::2], numbers[:, 1::2]) if paired else (numbers[:, :half], numbers[:, half:])
    joined: NDArray[Any] = low | high << 4
    return joined


def _rows(*columns: NDArray[Any]) -> bytes:
    return np.concatenate([np.ascontiguousarray(one).view(np.uint8) for one in columns], axis=1).tobytes()


def _bits(numbers: NDArray[Any]) -> NDArray[Any]:
    """The fifth bit of each number, the first number's lowest."""
    bits: NDArray[Any] = np.packbits(numbers >> 4 & 1, axis=1, bitorder="little")
    return bits


def encoded(kind: str, generation: str, weights: Array) -> tuple[bytes, Array]:
    """Weights in the blocks of their day, and the weights that these blocks mean."""
    early, wide = generation in ("ggml", "ggmf", "ggjt1"), generation != "ggjt3"
    flat = weights.astype(np.float32).reshape(-1)
    if kind == "F32":
        return flat.tobytes(), weights
    if kind == "F16":
        return flat.astype(np.float16).tobytes(), weights.astype(np.float16).astype(np.float32)
    if size := K_SIZES.get(kind):
        return np.random.default_rng(flat.size).bytes(flat.size // 256 * size), weights
    size = 16 if kind in ("Q4_2", "Q4_3") else 32
    blocks = flat.reshape(-1, size)
    scale_type = np.float32 if wide and kind in ("Q4_0", "Q4_1", "Q8_0") else np.float16
    signed = kind in ("Q4_0", "Q4_2", "Q5_0", "Q8_0")
    most = {"Q8_0": 127, "Q5_0": 15, "Q5_1": 31, "Q4_1": 15, "Q4_3": 15}.get(kind, 7)
    low = np.zeros((len(blocks), 1), np.float32) if signed else blocks.min(axis=1, keepdims=True)
    reach = np.abs(blocks).max(axis=1, keepdims=True) if signed else blocks.max(axis=1, keepdims=True) - low
    scale, low = (reach / most).astype(scale_type), low.astype(scale_type)
    wide_scale = np.where(scale == 0, 1, scale).astype(np.float32)
    numbers = np.rint((blocks - low.astype(np.float32)) / wide_scale)
    numbers = np.clip(numbers, -most if signed else 0, most)
    meant = numbers * scale.astype(np.float32) + low.astype(np.float32)
    if kind == "Q8_0":
        return _rows(scale, numbers.astype(np.int8)), meant.reshape(weights.shape)
    raw = (numbers + ((most + 1) if signed else 0)).astype(np.uint8)
    scales = (scale,) if signed else (scale, low)
    fifth = (_bits(raw),) if kind.startswith("Q5") else ()
    return _rows(*scales, *fifth, _nibbles(raw & 15, early)), meant.reshape(weights.shape)


@dataclass(frozen=True)
class OldModel:
    """A LLaMA to be written. tensors: by their old names, rows first as numpy has them."""

    numbers: Mapping[str, int]
    tokens: Sequence[tuple[bytes, float]]
    tensors: Mapping[str, Array]
    generation: str = "ggjt3"
    kind: str = "F16"
    file_type: int | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Types of single tensors, where they are not `kind`."""

    def write(self, path: Path, parts: int = 1) -> Mapping[str, Array]:
        """Write it, in parts beside `path` where there are several. Returns the weights that it means."""
        meant: dict[str, Array] = {}
        for number in range(parts):
            place = path if number == 0 else path.with_name(f"{path.name}.{number}")
            out = bytearray(self._head())
            for name, weights in self.tensors.items():
                share = _share(name, weights, number, parts)
                kind = self._kind(name, share)
                raw, means = encoded(kind, self.generation, share)
                out += struct.pack("<3I", share.ndim, len(name), (TYPES | K_TYPES)[kind])
                out += struct.pack(f"<{share.ndim}I", *reversed(share.shape)) + name.encode()
                if self.generation.startswith("ggjt"):
                    out += bytes(-len(out) % 32)
                out += raw
                meant[name] = means if number == 0 else _put_together(name, meant[name], means)
            place.write_bytes(out)
        return meant

    def _kind(self, name: str, weights: Array) -> str:
        return "F32" if weights.ndim == 1 else self.kinds.get(name, self.kind)

    def _head(self) -> bytes:
        magic, version = MAGICS[self.generation]
        kind = FILE_TYPES.get(self.kind, 0) if self.file_type is None else self.file_type
        numbers = [self.numbers[key] for key in ("vocab", "embd", "mult", "head", "layer", "rot")]
        start = magic + (struct.pack("<I", version) if version else b"") + struct.pack("<7I", *numbers, kind)
        tokens = []
        for text, score in self.tokens:
            tokens.append(struct.pack("<I", len(text)) + text + (struct.pack("<f", score) if version else b""))
        return start + b"".join(tokens)


def _axis(name: str) -> int:
    """Along which a matrix was cut: columns of embeddings and of what goes back into the stream, else rows."""
    return 1 if name.startswith("tok_embeddings") or ".wo." in name or ".w2." in name else 0


def _share(name: str, weights: Array, number: int, parts: int) -> Array:
    if weights.ndim == 1:
        return weights
    shares: list[Array] = np.split(weights, parts, axis=_axis(name))
    return shares[number]


def _put_together(name: str, first: Array, second: Array) -> Array:
    if first.ndim == 1:
        return first
    joined: Array = np.concatenate((first, second), axis=_axis(name))
    return joined


def vocabulary(count: int, word: Callable[[int], bytes] = lambda number: f" w{number}".encode()) -> list[Any]:
    """LLaMA's: three special tokens, 256 bytes, then pieces in the order of their scores."""
    special = [(" \u2047 ".encode(), 0.0), (b"", 0.0), (b"", 0.0)]
    own = [(bytes([value]), 0.0) for value in range(256)]
    return [*special, *own, *((word(number), float(259 - number)) for number in range(259, count))][:count]


def small_llama(
    generation: str = "ggjt3",
    kind: str = "F16",
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    shared: int | None = None,
    inner: int = 192,
    tokens: int = 300,
    seed: int = 7,
    **changes: Any,
) -> OldModel:
    """A LLaMA of random weights. shared: key-value heads, where they are fewer than heads."""
    dice = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> Array:
        drawn: Array = (dice.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        return drawn

    keys = width // heads * (shared or heads)
    tensors: dict[str, Array] = {
        "tok_embeddings.weight": matrix(tokens, width) * 4,
        "norm.weight": np.ones(width, np.float32),
        "output.weight": matrix(tokens, width) * 2,
    }
    for layer in range(layers):
        tensors |= {
            f"layers.{layer}.attention.wq.weight": matrix(width, width),
            f"layers.{layer}.attention.wk.weight": matrix(keys, width),
            f"layers.{layer}.attention.wv.weight": matrix(keys, width),
            f"layers.{layer}.attention.wo.weight": matrix(width, width),
            f"layers.{layer}.attention_norm.weight": np.ones(width, np.float32),
            f"layers.{layer}.feed_forward.w1.weight": matrix(inner, width),
            f"layers.{layer}.feed_forward.w2.weight": matrix(width, inner),
            f"layers.{layer}.feed_forward.w3.weight": matrix(inner, width),
            f"layers.{layer}.ffn_norm.weight": np.ones(width, np.float32),
        }
    numbers = {"vocab": tokens, "embd": width, "mult": 32, "head": heads, "layer": layers, "rot": width // heads}
    return OldModel(numbers, vocabulary(tokens), tensors, generation, kind, **changes)


def demo_llama(generation: str, kind: str, demo: Path, **changes: Any) -> tuple[OldModel, dict[bytes, int]]:
    """The demo model as a file of those days, and its tokens' numbers by their text.

    Its vocabulary is put in LLaMA's order, bytes first, and its embeddings with it; both matrices of embeddings, which
    it shares, are written.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(demo)
    new = {
        **_OUTER_NAMES,
        **{f"blk.{layer}.{name}": f"layers.{layer}.{old}" for layer in range(6) for name, old in _INNER},
    }
    tensors = {new[one.name]: dequantize(one.data, one.tensor_type).astype(np.float32) for one in reader.tensors}
    field_ = reader.fields["tokenizer.ggml.tokens"]
    texts = [bytes(field_.parts[index]).decode() for index in field_.data]
    known = [as_written(number, text) for number, text in enumerate(texts)]
    single = {text: number for number, text in enumerate(known) if len(text) == 1}
    order = [0, 1, 2, *(single[bytes([value])] for value in range(256))]
    order += [number for number in range(len(known)) if number not in set(order)]
    tensors["tok_embeddings.weight"] = tensors["tok_embeddings.weight"][order]
    tensors["output.weight"] = tensors["tok_embeddings.weight"]
    pieces = [known[number] for number in order]
    tokens = vocabulary(len(pieces), lambda number: pieces[number])
    numbers = {"vocab": len(pieces), "embd": 256, "mult": 256, "head": 4, "layer": 6, "rot": 64}
    places = {known[old]: new_ for new_, old in enumerate(order)}
    return OldModel(numbers, tokens, tensors, generation, kind, **changes), places


_OUTER_NAMES: Final = {"token_embd.weight": "tok_embeddings.weight", "output_norm.weight": "norm.weight"}
_INNER: Final = [
    ("attn_norm.weight", "attention_norm.weight"),
    ("attn_q.weight", "attention.wq.weight"),
    ("attn_k.weight", "attention.wk.weight"),
    ("attn_v.weight", "attention.wv.weight"),
    ("attn_output.weight", "attention.wo.weight"),
    ("ffn_norm.weight", "ffn_norm.weight"),
    ("ffn_gate.weight", "feed_forward.w1.weight"),
    ("ffn_down.weight", "feed_forward.w2.weight"),
    ("ffn_up.weight", "feed_forward.w3.weight"),
]


def as_written(number: int, text: str) -> bytes:
    """A token of the demo model's byte-level vocabulary as the bytes it stands for; the first nine are special."""
    if number < 9:
        return text.encode()
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in plain]
    table = {chr(value): value for value in plain} | {chr(256 + at): value for at, value in enumerate(others)}
    return bytes(table[character] for character in text)
