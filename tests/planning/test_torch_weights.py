"""What weights of safetensors take in PyTorch once load options have changed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uml.core.model import Format, ModelInfo, Quantization, Role, Shape
from uml.core.options import LoadOptions
from uml.planning.libraries import weigh
from uml.planning.torch_weights import torch_weights

SHAPE = Shape(2, 100, 400, 4, (4, 4), 25, 25, vocabulary=1000)
TABLE, OTHERS = 100_000, 900_000


def model(method: str = "none", stored: str = "BF16", size: int = 2) -> ModelInfo:
    return ModelInfo(
        path=Path("/m"),
        format=Format.SAFETENSORS,
        role=Role.TEXT,
        confidence=1.0,
        reason="",
        size_bytes=1_000_000 * size,
        quantization=Quantization(method, method),
        parameters=TABLE + OTHERS,
        shape=SHAPE,
        weight_bytes={stored: 1_000_000 * size},
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"dtype": "bfloat16"}, None),
        ({"dtype": "float32"}, 4_000_000),
        ({"quantize": "bnb-int8"}, 2 * TABLE + OTHERS),
        ({"quantize": "torchao-int8", "dtype": "float32"}, 4 * TABLE + OTHERS),
        ({"quantize": "bnb-nf4", "quantize_double": False}, 2 * TABLE + OTHERS * 0.5625),
    ],
)
def test_weights_are_counted_as_they_are_kept(options: dict[str, Any], expected: float | None) -> None:
    found = torch_weights(model(), LoadOptions.parse(options), 2_000_000)
    assert (found and found.bytes) == (None if expected is None else int(expected))


def test_scales_that_are_quantized_take_less() -> None:
    double = torch_weights(model(), LoadOptions(quantize="bnb-fp4"), 2_000_000)
    single = torch_weights(model(), LoadOptions(quantize="bnb-fp4", quantize_double=False), 2_000_000)
    assert double
    assert single
    assert 0.9 < double.bytes / single.bytes < 1


def test_what_is_unpacked_is_counted_unpacked_and_what_is_packed_as_it_lies() -> None:
    unpacked = torch_weights(model("compressed-tensors", "I32", 1), LoadOptions(), 1_000_000)
    assert unpacked
    assert unpacked.bytes == 2_000_000
    assert torch_weights(model("gptq", "I32", 1), LoadOptions(dtype="float32"), 1_000_000) is None


def test_what_is_changed_is_no_longer_a_part_of_the_file() -> None:
    settled = LoadOptions(ctx=128, parallel=1)
    plain = weigh(model(), settled, in_memory=True)
    wide = weigh(model(), LoadOptions(ctx=128, parallel=1, dtype="float32"), in_memory=True)
    read = weigh(model(), LoadOptions(ctx=128, parallel=1, mmap=False), in_memory=True)
    assert (plain.mapped_bytes, wide.mapped_bytes, read.mapped_bytes) == (2_000_000, 0, 0)
    assert wide.weight_bytes == 2 * plain.weight_bytes
    assert wide.kv_bytes == 2 * plain.kv_bytes
    assert read.total_bytes == plain.total_bytes


def test_fp8_is_unpacked_where_no_gpu_computes_in_it() -> None:
    held = model("fp8", "F8_E4M3", 1)
    unpacked = torch_weights(held, LoadOptions(), 1_000_000)
    assert unpacked is not None
    assert held.parameters is not None
    assert unpacked.bytes == held.parameters * 2
    assert torch_weights(held, LoadOptions(), 1_000_000, in_memory=False) is None
