"""What models of 16 bits take in PyTorch where a processor has no instructions for such numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from uml.core.model import Format, ModelInfo, Role, Shape
from uml.core.options import LoadOptions
from uml.core.plan import Footprint
from uml.planning.libraries import weigh
from uml.planning.torch_packed import packed_besides

MIB = 1 << 20


def model(shape: Shape, parameters: int, **more: Any) -> ModelInfo:
    stored = {"BF16": 2 * parameters}
    info = ModelInfo(
        Path("/m"), Format.SAFETENSORS, Role.TEXT, 1.0, "", 2 * parameters, shape=shape, weight_bytes=stored
    )
    return replace(info, parameters=parameters, **more)


MID = model(Shape(16, 768, 2304, 12, (4,) * 16, 64, 64, vocabulary=32_000), 134_669_568)
HALF = model(Shape(24, 896, 4864, 14, (2,) * 24, 64, 64, vocabulary=151_936), 494_032_768)


def told(info: ModelInfo, **asked: Any) -> Footprint:
    return weigh(info, LoadOptions.parse({"ctx": 512, "parallel": 1, "batch": 512, **asked}), in_memory=True)


@pytest.mark.parametrize(
    ("asked", "measured"),
    [({}, 840), ({"dtype": "float32"}, 965), ({"quantize": "bnb-int8"}, 757), ({"quantize": "bnb-nf4"}, 704)],
)
def test_estimates_are_near_what_was_measured(asked: dict[str, Any], measured: int) -> None:
    found = told(MID, **asked)
    assert measured * 0.99 <= found.total_bytes / MIB <= measured + 64
    assert found.low_bytes <= measured * MIB <= found.high_bytes


def test_the_width_of_what_is_packed_is_rounded_up() -> None:
    even = model(Shape(16, 1024, 2048, 16, (4,) * 16, 64, 64, vocabulary=32_000), 1 << 27, metadata={})
    apart = replace(even, metadata={"tie_word_embeddings": False})
    assert packed_besides(apart, LoadOptions(), plain=True) == 0
    # The table of tokens stays beside what makes scores of it.
    assert packed_besides(even, LoadOptions(), plain=True) == 32_000 * 1024 * 2
    # 896 becomes 1,024: 78 MiB of layers, and 297 of scores.
    assert packed_besides(HALF, LoadOptions(), plain=True) / MIB == pytest.approx(375, abs=2)


def test_a_quantized_model_packs_what_makes_scores() -> None:
    assert packed_besides(MID, LoadOptions(), plain=False) == 32_000 * 1024 * 2


def test_what_is_not_packed_takes_nothing_besides() -> None:
    assert packed_besides(MID, LoadOptions(repack=False), plain=True) == 0
    assert packed_besides(replace(MID, role=Role.EMBEDDING), LoadOptions(), plain=True) == 0
    assert packed_besides(replace(MID, shape=None), LoadOptions(), plain=True) == 0


def test_matrices_that_are_small_and_experts_are_not_packed() -> None:
    tiny = model(Shape(2, 300, 600, 4, (4, 4), 75, 75, vocabulary=500), 1 << 20)
    assert packed_besides(tiny, LoadOptions(), plain=True) == 0
    assert MID.shape is not None
    experts = replace(MID, shape=replace(MID.shape, experts=8, experts_used=2))
    attention = 16 * 2 * 768 * 256 * 2
    assert packed_besides(experts, LoadOptions(), plain=True) == 32_000 * 1024 * 2 + attention
