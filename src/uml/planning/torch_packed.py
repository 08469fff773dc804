"""Bytes that matrices of 16 bits take besides, where a processor has no instructions for such numbers and FBGEMM
multiplies them: it rounds up the width of a matrix, and what looks up tokens keeps a table as it was.

Processors that have them take less; which one will run a model is not asked.
"""

from __future__ import annotations

from typing import Final

from uml.core.model import READERS, ModelInfo, Shape
from uml.core.options import LoadOptions

BLOCK: Final = 512
"""What FBGEMM rounds the width of a matrix up to (`PackedGemmMatrixB`)."""
LEAST: Final = 1 << 18
"""Weights of a matrix that is packed: smaller ones stay as they are."""
SIZE: Final = 2
"""Bytes of a number in float16."""


def packed_besides(info: ModelInfo, options: LoadOptions, *, plain: bool) -> int:
    """For a model that is computed with in 16 bits, in memory. plain: its layers are not quantized.

    0 for one that writes no text, for it is not packed. Experts lie in tensors of their own, which are not either.
    """
    shape = info.shape
    if shape is None or info.role in READERS or not options.repack:
        return 0
    return _scores(info, shape) + (_layers(shape) if plain else 0)


def _scores(info: ModelInfo, shape: Shape) -> int:
    """Of the matrix that makes scores: all of it where it is the table of tokens too."""
    rows, width = shape.vocabulary, shape.embedding
    tied = info.metadata.get("tie_word_embeddings", True) is True
    return _more(rows, width) + (rows * width * SIZE if tied and rows * width >= LEAST else 0)


def _layers(shape: Shape) -> int:
    width, inner = shape.embedding, shape.feed_forward
    queries, values = shape.heads * shape.key_length, shape.heads * shape.value_length
    found = 0
    for heads in shape.kv_heads:
        found += _more(queries, width) + _more(width, values)
        found += _more(heads * shape.key_length, width) + _more(heads * shape.value_length, width)
    if not shape.experts:
        found += shape.layers * (2 * _more(inner, width) + _more(width, inner))
    return found


def _more(rows: int, width: int) -> int:
    """What rounding a matrix `[rows, width]` up adds."""
    return rows * (-width % BLOCK) * SIZE if rows * width >= LEAST else 0
