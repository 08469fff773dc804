"""Bytes that PyTorch computes in while a model reads one image; the weights of what reads it are counted as all others.

Measured with the encoder of SigLIP on a processor: 380 MiB for 4,096 patches of 1,152 numbers (feed-forward 4,304) in
F32, where this says 379; 47 for 576 of 1,024 (4,096), where it says 52; 258 for the first in BF16, where it says 190.
"""

from __future__ import annotations

from typing import Final

from uml.core.model import ModelInfo
from uml.core.options import LoadOptions

_WIDTHS, _FORWARDS = 7, 4
"""Vectors, and feed-forward rows, of each patch."""
_PIXELS: Final = 1 << 20
"""Of an image, where a model takes them as large as they come: about what a picture on a screen has."""
_MOST_PATCHES: Final = 1 << 16


def vision_compute(info: ModelInfo, options: LoadOptions, element_bytes: int) -> int:
    """For one image; 0 for a model whose configuration has no part that reads any."""
    if not sees(info):
        return 0
    patch, side = _number(info, "patch_size"), _number(info, "image_size")
    patches = (side // patch) ** 2 if side else _PIXELS // patch**2
    merged = _number(info, "spatial_merge_size")
    if merged and options.ctx:
        # What becomes more tokens than the context holds is refused before it is computed.
        patches = min(patches, options.ctx * merged**2)
    return min(patches, _MOST_PATCHES) * _patch_bytes(info, element_bytes)


def images_compute(info: ModelInfo, numbers: int, element_bytes: int) -> int:
    """The same for images that are known, and read together. numbers: that they were made into, three a pixel."""
    if not sees(info):
        return 0
    each = 3 * _number(info, "patch_size") ** 2 * (_number(info, "temporal_patch_size") or 1)
    return -(-numbers // each) * _patch_bytes(info, element_bytes)


def sees(info: ModelInfo) -> bool:
    """Whether the configuration has a part that reads images."""
    return _number(info, "patch_size") > 0 and _number(info, "embed_dim", "hidden_size") > 0


def _patch_bytes(info: ModelInfo, element_bytes: int) -> int:
    width = _number(info, "embed_dim", "hidden_size")
    forward = _number(info, "intermediate_size") or width * (_number(info, "mlp_ratio") or 4)
    return (_WIDTHS * width + _FORWARDS * forward) * element_bytes


def _number(info: ModelInfo, *names: str) -> int:
    for name in names:
        value = info.metadata.get(f"vision_config.{name}")
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0
