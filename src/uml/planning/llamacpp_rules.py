"""Bytes of llama.cpp beside the cache: weights and their copies, compute buffers, the process.

Measured on the build pinned in pyproject with files of random weights, against the `buffer size`
lines of its log. Where a rule is known to hold for some architectures only, the others get a wider range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from uml.core.model import ModelInfo, Role, Shape
from uml.core.options import LoadOptions
from uml.planning.cache import Cache, cells, is_encoder

MIB: Final = 1 << 20

REPACKED: Final = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4", "Q2_K"})
"""Types that a build for AVX2 copies into rows its kernels like (`CPU_REPACK`), byte for byte."""

_AMX_FACTORS: Final = {"Q8_0": (38, 34), "Q4_K": (148, 144), "Q5_K": (180, 176)} | dict.fromkeys(
    ("Q4_0", "Q4_1", "Q6_K", "IQ4_XS", "F16"), (1, 1)
)
"""Types that a build for AMX copies (`AMX`), and by how much the copy is larger."""

_KNOWN_COMPUTE: Final = frozenset(
    {"llama", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "gpt-oss", "lfm2", "jamba", "bert"}
)
_ROW_FLOATS: Final = {"gemma3n": 45.0, "deepseek2": 25.0, "cohere2": 16.5, "mamba": 15.7, "mamba2": 15.7}
"""Floats a row of the batch takes, in embedding lengths, where it is not 5 and three feed-forward lengths."""

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


def stored_bytes(info: ModelInfo) -> int:
    """Bytes of all weights as they lie in the file."""
    return sum(info.weight_bytes.values()) or info.size_bytes


@dataclass(frozen=True, slots=True)
class Copies:
    """Weights that the engine re-orders: `originals` bytes of the file become `grown` more in its own memory."""

    originals: int
    grown: int


def copies(info: ModelInfo, options: LoadOptions, cpu_share: float, amx: bool) -> Copies:
    """What is copied, re-ordered, of the layers on the processor.

    The token embedding is copied only when the output layer shares it. The header does not say by
    tensor, so it is counted.
    """
    if not options.repack or not cpu_share:
        return Copies(0, 0)
    originals = grown = 0
    for kind, count in info.weight_bytes.items():
        if kind in REPACKED or (amx and kind in _AMX_FACTORS):
            times, over = _AMX_FACTORS.get(kind, (1, 1)) if amx else (1, 1)
            originals += count
            grown += count * times // over - count
    return Copies(int(originals * cpu_share), int(grown * cpu_share))


def compute(info: ModelInfo, shape: Shape, options: LoadOptions, kept: Cache) -> Range:
    """The buffer in which one batch is computed.

    With flash attention, a row of the batch takes 4 (5 d + 3 ff) bytes, and 2 for each cell its masks
    span: of the full layers, and once more of the sliding ones. In a mixture ff is that of all experts
    in use. Without flash attention every head's scores are written out: 4 bytes a head and cell.
    A batch over several slots holds the states of all of them besides. A text model that is to
    embed too has the logits of the whole batch: 4 bytes a row and token.
    """
    slots = max(1, options.parallel)
    rows = min(options.ubatch, options.batch, options.ctx * (1 if options.kv_unified else slots))
    room = cells(options, shape.sliding_window)
    if is_encoder(info):
        full, sliding = rows, 0
    else:
        full = room.per_slot if kept.full_layers else 0
        sliding = room.window_per_slot if kept.window_layers else 0
    if options.swa_full and shape.sliding_window:
        sliding = full
    span = full + sliding
    width = _ROW_FLOATS.get(info.architecture, 0.0) * shape.embedding or 5 * shape.embedding + _forward(info, shape)
    row = 4 * int(width) + 2 * span
    if options.flash_attention == "off":
        row = max(row, 4 * (shape.heads + 1) * span + 28 * shape.embedding)
    state = kept.state_bytes // max(1, kept.state_layers) * slots
    likely = rows * row + state
    if {options.cache_type_k, options.cache_type_v} - {"auto", "f16", "f32", "bf16"}:
        likely += likely // 64
    if options.embeddings and info.role not in (Role.EMBEDDING, Role.RERANKER):
        likely += rows * shape.vocabulary * 4
    if info.architecture in _KNOWN_COMPUTE or info.architecture in _ROW_FLOATS:
        return Range(likely * 6 // 10, likely, likely + likely // 16 + 2 * MIB)
    return Range(likely // 2, likely, likely * 5 // 2 + 16 * MIB)


def _forward(info: ModelInfo, shape: Shape) -> int:
    """Floats of a row in the feed-forward part; BERT's has one matrix there and not two side by side."""
    if info.architecture == "bert":
        return shape.feed_forward
    if not shape.experts:
        return 3 * shape.feed_forward
    width = _meta(info, "expert_feed_forward_length") or shape.feed_forward
    used = max(1, shape.experts_used) * width
    # The first layers of some mixtures are dense; then the wider of the two decides.
    return 3 * (max(used, shape.feed_forward) if _meta(info, "leading_dense_block_count") else used)


def outputs(shape: Shape, options: LoadOptions) -> int:
    """Logits of the last token of every slot."""
    return shape.vocabulary * 4 * max(1, options.parallel)


def process(info: ModelInfo, shape: Shape | None) -> Range:
    """The worker itself: libraries, interpreter, vocabulary. 35 to 100 MiB."""
    kind = info.metadata.get("tokenizer.ggml.model", "gpt2")
    tokens = shape.vocabulary if shape else 128_000
    likely = _BASE_BYTES + tokens * _TOKEN_BYTES.get(str(kind), 410)
    return Range(likely * 6 // 10, likely, likely + 32 * MIB)


def _meta(info: ModelInfo, key: str) -> int:
    values: Mapping[str, object] = info.metadata
    value = values.get(f"{info.architecture}.{key}")
    return value if isinstance(value, int) and value > 0 else 0
