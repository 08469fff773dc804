"""besides(info, options, apart) -> int: bytes of an answer that runs beside a model's rows, with PyTorch.

The plan has the rows, all of them full. An answer by beams, one that is guided and one to images have keys and values
of their own; how many depends on the request, so it is reckoned when that comes, by the rules of `libraries`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from uml.core.model import ModelInfo
from uml.core.options import LoadOptions
from uml.planning.libraries import torch_use
from uml.planning.torch_vision import images_compute, sees

_SCORES: Final = 4
"""Rows of scores, in F32, that a search by beams has at once for each beam."""


@dataclass(frozen=True, slots=True)
class Apart:
    """What an answer without a row holds.

    texts: tokens at most of each text that it keeps keys and values of, so many `times`. read: tokens that one step
    reads, of all texts together. images: numbers that its images have become, three a pixel, of `image_bytes` each.
    """

    texts: tuple[int, ...]
    read: int
    times: int = 1
    images: int = 0
    image_bytes: int = 4


def besides(info: ModelInfo, options: LoadOptions, apart: Apart, *, rows: bool, in_memory: bool) -> int:
    """Bytes that the plan of this model, with these resolved options, does not have; 0 where it has all.

    rows: whether other answers run in rows, to which what the plan has for conversations then belongs, but for the one
    more that is counted for images. in_memory: no layer is on a GPU.
    """

    def use(tokens: int, slots: int = 1) -> tuple[int, int]:
        # A layer with a window keeps no more than that, so texts of different lengths differ by more than these.
        found = torch_use(info, replace(options, ctx=tokens, batch=tokens, parallel=slots), in_memory=in_memory)
        return found.kept, found.computed

    planned = torch_use(info, options, in_memory=in_memory)
    row = planned.kept // max(1, options.parallel) if sees(info) else 0
    counted = row if rows else planned.kept + row
    held = sum(use(tokens)[0] for tokens in apart.texts) * apart.times
    computed = max(use(apart.read)[1], images_compute(info, apart.images, apart.image_bytes))
    if info.shape and apart.times > 1:
        computed += info.shape.vocabulary * 4 * _SCORES * apart.times
    return max(0, held - counted) + max(0, computed - planned.computed)
