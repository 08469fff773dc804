"""GGUF models of `benchmarks.architectures` with random weights that compute: for what is said of them, not by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.architectures import bert, gemma3, qwen3, siglip
from benchmarks.sketch import KINDS, Dims, Sketch, write

STARTS = 32
"""Tensors start at multiples of so many bytes."""
SMALL = Dims(layers=2, embedding=128, feed_forward=256, heads=2, kv_heads=1, head=64, vocabulary=600, context=2048)


def seeing(folder: Path) -> tuple[Path, Path]:
    """A model of the kind of Gemma 3, and its projector for images of 56 pixels: 4 tokens each."""
    model = gemma3(replace(SMALL, window=512))
    projector = siglip(SMALL, layers=2, width=64, forward=128, image=56)
    return write_random(model, folder / "seeing.gguf", 1), write_random(projector, folder / "mmproj.gguf", 2)


def reranker(folder: Path) -> Path:
    """A BERT that scores pairs of texts."""
    sketch = bert(replace(SMALL, head=64, kv_heads=2, context=512))
    sketch.say(pooling_type=4)
    sketch.tensors["cls.weight"] = ((SMALL.embedding, SMALL.embedding), KINDS.F32)
    sketch.tensors["cls.bias"] = ((SMALL.embedding,), KINDS.F32)
    sketch.tensors["cls.output.weight"] = ((SMALL.embedding, 1), KINDS.F32)
    sketch.tensors["cls.output.bias"] = ((1,), KINDS.F32)
    return write_random(sketch, folder / "reranker.gguf", 3)


def yes_or_no(folder: Path) -> Path:
    """A Qwen 3 that says by two words how well a document suits."""
    sketch = qwen3(SMALL)
    sketch.say(pooling_type=4, classifier__output_labels=["yes", "no"])
    sketch.tensors["cls.output.weight"] = ((SMALL.embedding, 2), KINDS.F32)
    return write_random(sketch, folder / "yes-or-no.gguf", 5)


def write_random(sketch: Sketch, path: Path, seed: int) -> Path:
    """The file, its weights normal numbers: matrices keep the size of what they multiply, norms are about 1."""
    random = np.random.default_rng(seed)
    for name, (shape, kind) in sketch.tensors.items():
        if kind not in (KINDS.F32, KINDS.F16):
            sketch.tensors[name] = (shape, KINDS.F16)
    write(sketch, path, sparse=True)
    sizes = [_bytes(shape, kind) for shape, kind in sketch.tensors.values()]
    start = path.stat().st_size - sum(-(-size // STARTS) * STARTS for size in sizes)
    with path.open("r+b") as file:
        for (name, (shape, kind)), size in zip(sketch.tensors.items(), sizes, strict=True):
            file.seek(start)
            file.write(_weights(random, name, shape).astype(np.float16 if kind == KINDS.F16 else np.float32).tobytes())
            start += -(-size // STARTS) * STARTS
    return path


def _weights(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> Any:
    if len(shape) == 1:
        return random.normal(0.0 if name.endswith("bias") else 1.0, 0.1, shape)
    # Rows that stand for tokens make scores, too: small ones leave more than one token a chance.
    spread = 0.1 if "embd" in name else shape[0] ** -0.5 * 2
    return random.normal(0.0, spread, shape)


def _bytes(shape: tuple[int, ...], kind: KINDS) -> int:
    return int(np.prod(shape)) * (2 if kind == KINDS.F16 else 4)
