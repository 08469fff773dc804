"""What folders of ONNX Runtime GenAI take, against processes that were measured with every slot full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from uml.core.model import Format, ModelInfo, Role, Shape
from uml.core.options import LoadOptions
from uml.core.plan import Footprint
from uml.planning.genai_weights import genai_weights
from uml.planning.libraries import weigh

MIB = 1 << 20


def shape(layers: int, embedding: int, heads: int, kv_heads: int, vocabulary: int) -> Shape:
    """As the configuration tells it: the feed-forward width is a guess."""
    return Shape(layers, embedding, 4 * embedding, heads, (kv_heads,) * layers, 64, 64, vocabulary=vocabulary)


DEMO, MID, HALF = shape(6, 256, 4, 2, 2000), shape(16, 768, 12, 4, 32_000), shape(24, 896, 14, 2, 151_936)
STORED = {
    "demo fp32": (DEMO, 21_621_647),
    "demo int8": (DEMO, 8_642_681),
    "demo int4": (DEMO, 3_979_805),
    "135M fp32": (MID, 541_099_742),
    "135M int4": (MID, 86_596_085),
    "135M int8": (MID, 252_238_194),
    "494M int4": (HALF, 311_282_986),
}
WIDTHS = {"demo": 768, "135M": 2304, "494M": 4864}
MEASURED = [
    ("demo fp32", 512, 1, 120), ("demo fp32", 2048, 1, 130), ("demo fp32", 2048, 4, 207),
    ("demo int8", 512, 1, 108), ("demo int8", 2048, 1, 118), ("demo int8", 2048, 4, 200),
    ("demo int4", 512, 1, 104), ("demo int4", 2048, 1, 114), ("demo int4", 2048, 4, 194),
    ("135M fp32", 512, 1, 737), ("135M fp32", 2048, 1, 789), ("135M fp32", 4096, 1, 853),
    ("135M fp32", 2048, 4, 1100), ("135M int4", 512, 1, 262), ("135M int4", 2048, 1, 312),
    ("135M int4", 4096, 1, 377), ("135M int4", 2048, 4, 637), ("494M int4", 512, 1, 602),
]  # fmt: skip
"""Model, context, slots; MiB of a worker with 0.18 on a processor."""


def told(name: str, ctx: int, parallel: int, *, in_memory: bool = True) -> Footprint:
    its, stored = STORED[name]
    info = ModelInfo(
        Path("/m"), Format.ONNX_GENAI, Role.TEXT, 1.0, "", stored, shape=its, context_length=8192, architecture="qwen2"
    )
    return weigh(info, LoadOptions.parse({"ctx": ctx, "parallel": parallel, "batch": 512}), in_memory=in_memory)


@pytest.mark.parametrize(("name", "ctx", "parallel", "measured"), MEASURED)
def test_estimates_are_near_what_was_measured(name: str, ctx: int, parallel: int, measured: int) -> None:
    found = told(name, ctx, parallel)
    # A tenth, or 64 MiB: and never too low by more than the noise.
    assert measured * 0.99 <= found.total_bytes / MIB <= measured + 64
    assert found.low_bytes <= measured * MIB <= found.high_bytes


@pytest.mark.parametrize("name", STORED)
def test_the_width_of_a_model_is_told_by_its_bytes(name: str) -> None:
    its, stored = STORED[name]
    expected = WIDTHS[name.split()[0]]
    # Norms, graphs and tables of positions are among the bytes; of a tiny model they are a part of note.
    assert genai_weights(its, stored).shape.feed_forward == pytest.approx(expected, rel=0.35 if its is DEMO else 0.05)


def test_a_graph_that_makes_scores_for_all_tokens_takes_them_for_a_batch() -> None:
    its, stored = STORED["494M int4"]
    last = ModelInfo(Path("/m"), Format.ONNX_GENAI, Role.TEXT, 1.0, "", stored, shape=its, context_length=8192)
    every = replace(last, metadata={"graph.scores": "all"})
    options = LoadOptions.parse({"ctx": 2048, "parallel": 1, "batch": 512})
    more = weigh(every, options, in_memory=True).compute_bytes - weigh(last, options, in_memory=True).compute_bytes
    # 300 MB for 512 tokens of a vocabulary of 150,000.
    assert more == 512 * 151_936 * 4


def test_what_kernels_keep_in_their_own_order_is_memory_of_the_processor() -> None:
    here, there = told("135M int4", 2048, 1), told("135M int4", 2048, 1, in_memory=False)
    assert here.other_bytes - there.other_bytes == genai_weights(*STORED["135M int4"]).copied > 40 * MIB


def test_a_table_of_its_own_is_pages_of_the_file() -> None:
    assert told("135M int8", 512, 1).mapped_bytes == 4 * MID.vocabulary * MID.embedding
    assert told("135M int8", 512, 1, in_memory=False).mapped_bytes == told("135M int4", 512, 1).mapped_bytes == 0
    # Measured when prompts from all over the vocabulary had read 62 of its 94 MiB.
    assert 358 <= told("135M int8", 512, 1).total_bytes / MIB <= 358 + 64


def test_a_large_table_of_few_bits_is_pages_of_the_file() -> None:
    large, small = told("494M int4", 512, 1), told("135M int4", 512, 1)
    assert large.mapped_bytes == HALF.vocabulary * HALF.embedding * 5 // 8
    assert small.mapped_bytes == 0


def test_a_file_too_small_for_its_shape_is_not_reckoned_below_nothing() -> None:
    found = genai_weights(HALF, 1 << 20)
    assert found.shape is HALF
    assert found.copied == 1 << 20
