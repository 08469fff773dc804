"""Bytes of llama.cpp beside weights and cache: compute and output buffers, the process.

The compute buffer is drawn (`drawing`, `blocks`, `graph`). Checked on the build pinned in
pyproject with files of random weights, against the `buffer size` lines of its log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from uml.core.model import ModelInfo, Shape
from uml.core.options import LoadOptions
from uml.planning.llamacpp.blocks import peak_bytes
from uml.planning.llamacpp.drawing import batch, drawing, is_drawn
from uml.planning.llamacpp.model import Batch
from uml.planning.llamacpp.weights import AMX_FACTORS, REPACKED, stored_bytes

__all__ = ["AMX_FACTORS", "MIB", "REPACKED", "Range", "compute", "outputs", "process", "stored_bytes"]

MIB: Final = 1 << 20

_MEASURED: Final = frozenset(
    {"llama", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "gpt-oss", "deepseek2", "mamba2", "falcon-h1"}
    | {"command-r", "bert"}
)
"""Architectures whose graphs were held against the engine's figures (benchmarks/estimates.py)."""

_BASE_BYTES: Final = 40 * MIB
"""Interpreter, engine library and server with nothing loaded: 35 to 45 MiB when measured."""
_TOKEN_BYTES: Final = {"gpt2": 410, "llama": 164}
"""What an entry of the vocabulary takes: with merges (BPE) 0.4 KiB, without (SPM) 0.16 KiB."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes: the likely figure and the range in which the truth lies."""

    low: int
    likely: int
    high: int


def compute(info: ModelInfo, shape: Shape, options: LoadOptions) -> Range:
    """The buffer in which one batch is computed, on one device.

    Its low figure is for what a short prompt touches: resident is only what has been used.
    """
    at_once = batch(info, shape, options)
    drawn = peak_bytes(drawing(info, shape), at_once)
    likely = _by_hand(shape, at_once) if drawn is None else drawn
    if shape.tensors and is_drawn(shape) and drawn is not None:
        slack = likely // 64 if info.architecture in _MEASURED else likely // 8
        return Range(likely * 6 // 10, likely, likely + slack + 2 * MIB)
    return Range(likely // 2, likely, likely * 3 // 2 + 16 * MIB)


def _by_hand(shape: Shape, at_once: Batch) -> int:
    """Five vectors and three feed-forward rows a token, and the logits, for a header that nobody can draw."""
    row = 5 * shape.embedding + 3 * shape.feed_forward
    return 4 * (at_once.tokens * row + at_once.outputs * shape.vocabulary)


def outputs(shape: Shape, options: LoadOptions) -> int:
    """Logits of the last token of every slot, and its vector where vectors are asked for."""
    row = shape.vocabulary + shape.embedding * options.embeddings
    return row * 4 * max(1, options.parallel)


def process(info: ModelInfo, shape: Shape | None) -> Range:
    """The worker itself: libraries, interpreter, vocabulary. 35 to 100 MiB."""
    kind = info.metadata.get("tokenizer.ggml.model", "gpt2")
    tokens = shape.vocabulary if shape else 128_000
    likely = _BASE_BYTES + tokens * _TOKEN_BYTES.get(str(kind), 410)
    return Range(likely * 6 // 10, likely, likely + 32 * MIB)
