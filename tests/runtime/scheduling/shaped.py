"""Tiny models of other kinds than the demo model, with weights that compute: what they say makes no sense, and is
the same every time."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from benchmarks.architectures import falcon_h1, gemma2, mamba2
from benchmarks.sketch import Dims, write

F32 = gguf.GGMLQuantizationType.F32
DIMS = Dims(
    layers=3, embedding=64, feed_forward=128, heads=4, kv_heads=2, head=32, vocabulary=700, context=2048, window=64
)

SKETCHES = {"mamba2": mamba2, "gemma2": gemma2, "falcon-h1": falcon_h1}
"""States, windows, and both keys and states."""


def write_shaped(architecture: str, path: Path) -> Path:
    """A model of this kind in F32, of half a megabyte."""
    sketch = SKETCHES[architecture](DIMS)
    sketch.tensors = {name: (shape, F32) for name, (shape, _) in sketch.tensors.items()}
    write(sketch, path, sparse=True)
    random = np.random.default_rng(7)
    with path.open("r+b") as file:
        file.seek(-sum(4 * int(np.prod(shape)) for shape, _ in sketch.tensors.values()), 2)
        for name, (shape, _) in sketch.tensors.items():
            file.write(_weights(name, shape, random).astype("<f4").tobytes())
    return path


def _weights(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if "norm" in name:
        # What a layer adds outweighs the last token, which would be said again and again else.
        return np.full(shape, 4.0 if "post" in name else 1.0)
    if name.endswith("ssm_a"):
        return -np.exp(random.normal(size=shape))  # a state that fades
    # Wide enough that the likeliest token does not hang on how a sum was rounded.
    return random.normal(scale=1.5 / np.sqrt(shape[0]), size=shape)
