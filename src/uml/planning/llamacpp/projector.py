"""Bytes of a projector: the encoder of images that stands before a language model.

Drawn as llama.cpp's `clip_graph_siglip` (tools/mtmd): patches, a stack of layers that see all of them, pooling. It is
warmed up with one image of its own size; encoders that take larger ones, or tiles, compute in more.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from uml.core.model import ModelInfo
from uml.planning.llamacpp.graph import Graph, Node

_LAYERS: Final = 3
"""Layers that are drawn: all are alike."""
_POOLED: Final = frozenset({"gemma3"})
"""Kinds that average neighbouring patches, 4 by 4."""


def projector_compute(info: ModelInfo) -> int | None:
    """The compute buffer for one image; None where the header does not say what it encodes."""

    def number(key: str) -> int:
        value = info.metadata.get(f"clip.vision.{key}")
        return value if isinstance(value, int) and value > 0 else 0

    image, patch, width = number("image_size"), number("patch_size"), number("embedding_length")
    forward, heads = number("feed_forward_length"), number("attention.head_count")
    if not (patch and width and heads and forward) or not patch <= image <= 1 << 14:
        return None
    half = any(kind in ("F16", "BF16") for kind in info.weight_bytes)
    pooled = info.metadata.get("clip.projector_type") in _POOLED
    out = (number("projection_dim") or width) if pooled else 0
    return _peak(image, patch, width, forward, heads, 2 if half else 4, out)


@lru_cache(maxsize=64)
def _peak(image: int, patch: int, width: int, forward: int, heads: int, patch_bytes: int, out: int) -> int:
    graph = Graph()
    side = image // patch
    count = side * side
    pixels = graph.input(image, image, 3)
    columns = graph.op((patch * patch * 3, count), pixels, width=patch_bytes)
    product = graph.view(graph.op((count, width), columns), count, width)
    patches = graph.op((width, count), graph.view(graph.view(product, count, width), width, count))
    current = graph.view(graph.over(graph.over(patches)), width, count)
    for _ in range(_LAYERS):
        current = _layer(graph, current, width, forward, heads, count)
    current = graph.over(graph.op(current.dims, current))
    if out:
        current = graph.op((side, side, width), graph.view(current, count, width))
        fewer = count // 16
        current = graph.op((width, fewer), graph.view(graph.op((fewer, width), current), width, fewer))
        turned = graph.op((width, out))
        current = graph.op((out, fewer), turned, graph.over(graph.over(current)))
    graph.expand(current)
    return graph.peak_bytes()


def _layer(graph: Graph, before: Node, width: int, forward: int, heads: int, count: int) -> Node:
    """Attention among all patches, then a feed-forward part, each behind a norm that subtracts the mean."""
    normed = graph.over(graph.op(before.dims, before))
    shape = (width // heads, heads, count)
    q, k, v = (graph.view(graph.over(graph.op((width, count), normed)), *shape) for _ in range(3))
    for node in (q, k, v):
        graph.expand(node)
    k, v = (graph.op(shape, graph.view(node, *shape), width=2) for node in (k, v))
    seen = graph.expand(graph.view(graph.op(shape, graph.view(q, *shape), k, v), width, count))
    joined = graph.over(graph.over(graph.op((width, count), seen)), before)
    normed = graph.over(graph.op(joined.dims, joined))
    inside = graph.over(graph.over(graph.op((forward, count), normed)))
    return graph.over(graph.over(graph.op((width, count), inside)), joined)
