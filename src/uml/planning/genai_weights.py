"""What ONNX Runtime keeps of a GenAI folder's weights in memory, beside the bytes of its files.

The configuration of such a folder tells neither how wide its feed-forward layers are nor how its weights are packed;
both are told by how many bytes they have. Measured with 0.18 on a processor, with models of 5, 135 and 494 million
weights in F32, 8 and 4 bits, as the library's own builder makes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from uml.core.model import Shape

USUAL_WIDTH: Final = 3.5
"""Of a feed-forward layer, in widths of the model: 2.7 to 5.4 in most families."""
MOST_FOLDED: Final = 1 << 24
"""Bytes of what is computed while a quantized model is loaded, which its worker tells the runtime: larger parts are but
turned or cut, which their kernels do again in their own order. Held twice for that moment, the matrix of scores made
the highest memory while loading 11 % more than what stays."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a builder writes weights.

    each: bytes of a weight. apart: there is a table of tokens in F32 besides the matrix that makes scores.
    again: what is kept beside the file's bytes, as a share of them, for the kernels' own order. scores: that of the
    matrix that makes scores, which is the table of tokens too and stays as it was. unturned: the same of one that is
    larger than MOST_FOLDED, and pages of the file where tokens are looked up; 0: it makes no difference.
    """

    each: float
    apart: bool
    again: float
    scores: float
    unturned: float = 0.0


PACKINGS: Final = (
    Packing(4.0, apart=False, again=0.0, scores=1.0),
    Packing(4.0, apart=True, again=0.0, scores=1.0),
    # Blocks of 32 with a scale in F32 each.
    Packing(0.5 + 4 / 32, apart=False, again=0.39, scores=1.48, unturned=0.8),
    Packing(0.5 + 4 / 32, apart=True, again=0.39, scores=0.39),
    Packing(1.0 + 4 / 32, apart=True, again=0.25, scores=0.25),
)


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's weights as its runtime has them.

    shape: with a width that fits. copied: bytes beside the file's. mapped: of a table that is pages of the file, in
    memory as far as its tokens were read.
    """

    shape: Shape
    copied: int
    mapped: int = 0


def genai_weights(shape: Shape, stored: int) -> Weights:
    """The packing by which so many stored bytes make the most usual model of this shape, and what follows from it."""
    matrix = shape.vocabulary * shape.embedding
    widths = [(width, way) for way in PACKINGS if (width := _width(shape, matrix, stored, way)) > 0]
    if not widths:
        return Weights(shape, min(stored, 4 * matrix))
    usual = USUAL_WIDTH * shape.embedding
    width, way = min(widths, key=lambda one: abs(math.log(one[0] / usual)))
    scores = way.each * matrix
    table = 4 * matrix if way.apart else 0
    unturned = way.unturned > 0 and scores > MOST_FOLDED
    again = way.unturned if unturned else way.scores
    copied = int(way.again * max(0.0, stored - scores - table) + again * scores)
    return Weights(replace(shape, feed_forward=round(width)), copied, int(scores) if unturned else table)


def _width(shape: Shape, matrix: int, stored: int, way: Packing) -> float:
    """How wide feed-forward layers would be; 0 or less where the bytes are not even enough for the rest."""
    packed = (stored - (4 * matrix if way.apart else 0)) / way.each
    kv = sum(shape.kv_heads) * (shape.key_length + shape.value_length) * shape.embedding
    attention = shape.layers * 2 * shape.heads * shape.key_length * shape.embedding
    return (packed - matrix - kv - attention) / (3 * shape.layers * shape.embedding)
