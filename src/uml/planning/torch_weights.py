"""Bytes of a model's weights in PyTorch, where load options or the library itself change them while they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from uml.core.model import Format, ModelInfo
from uml.core.options import LoadOptions

_SIZES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}

_PER_WEIGHT: Final[Mapping[str, float]] = {
    # 4 bits, and 4 bytes for every 64 weights; with the scales quantized, 1 byte and 4 for every 256 of them.
    "bnb-nf4": 0.5 + 4 / 64,
    "bnb-fp4": 0.5 + 4 / 64,
    "bnb-int8": 1.0,
    "torchao-int8": 1.0,
    "torchao-float8": 1.0,
}
_SCALES_QUANTIZED: Final = 0.5 + 1 / 64 + 4 / (64 * 256)


@dataclass(frozen=True, slots=True)
class TorchWeights:
    """Weights as they are kept. element_bytes: of one that is computed with; 0: as it is stored."""

    bytes: int
    element_bytes: int = 0


def torch_weights(info: ModelInfo, options: LoadOptions, stored: int, *, in_memory: bool = True) -> TorchWeights | None:
    """What is kept in place of `stored` bytes; None where the files are used as they are.

    in_memory: no layer is meant for a GPU.
    """
    if info.format not in (Format.SAFETENSORS, Format.PYTORCH) or not info.parameters:
        return None
    method = info.quantization.method if info.quantization else "none"
    size = _SIZES.get(options.dtype, 0)
    if method == "compressed-tensors" or (method == "fp8" and in_memory):
        # The library unpacks them while it loads, FP8 where no GPU computes in it: nothing is saved but disk.
        return TorchWeights(info.parameters * (size or 2), size)
    if method != "none":
        return None
    before = stored / info.parameters
    plain = size or before
    if options.quantize in _PER_WEIGHT:
        each = _PER_WEIGHT[options.quantize]
        if options.quantize in ("bnb-nf4", "bnb-fp4") and options.quantize_double:
            each = _SCALES_QUANTIZED
        # Tables of tokens stay as they are.
        kept = min(info.parameters, _tables(info))
        return TorchWeights(int(kept * plain + (info.parameters - kept) * each), size)
    return TorchWeights(int(info.parameters * size), size) if size and size != round(before) else None


def _tables(info: ModelInfo) -> int:
    """Weights of the tables that tokens are looked up in, and that scores are made by, where these are two."""
    if info.shape is None:
        return 0
    tied = info.metadata.get("tie_word_embeddings", True)
    return info.shape.vocabulary * info.shape.embedding * (1 if tied else 2)
