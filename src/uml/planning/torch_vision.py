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

    def number(*names: str) -> int:
        for name in names:
            value = info.metadata.get(f"vision_config.{name}")
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        return 0

    patch, width = number("patch_size"), number("embed_dim", "hidden_size")
    if not patch or not width:
        return 0
    forward = number("intermediate_size") or width * (number("mlp_ratio") or 4)
    side = number("image_size")
    patches = (side // patch) ** 2 if side else _PIXELS // patch**2
    merged = number("spatial_merge_size")
    if merged and options.ctx:
        # What becomes more tokens than the context holds is refused before it is computed.
        patches = min(patches, options.ctx * merged**2)
    return min(patches, _MOST_PATCHES) * (_WIDTHS * width + _FORWARDS * forward) * element_bytes
