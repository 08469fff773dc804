"""Attention over a cache or within the batch, with flash attention and without."""

from __future__ import annotations

from uml.planning.llamacpp.draft import Draft
from uml.planning.llamacpp.graph import Node
from uml.planning.llamacpp.model import Layer, Sizes


def _heads(draft: Draft, layer: Layer, sizes: Sizes, normed: Node) -> tuple[Node, Node, Node]:
    """Queries, keys and values, before their positions are told."""
    graph, tokens = draft.graph, draft.batch.tokens
    shapes = ((layer.key, layer.heads), (layer.key, layer.kv_heads), (layer.value, layer.kv_heads))
    if "attn_qkv.weight" in sizes:
        fused = draft.projected(sizes, "attn_qkv", normed)
        q, k, v = (graph.view(fused, *shape, tokens) for shape in shapes)
    else:
        names = ("attn_q", "attn_k", "attn_v")
        # Without a matrix of their own, values are the keys (Gemma 4) or another layer's.
        present = [name if f"{name}.weight" in sizes else "attn_q" for name in names]
        q, k, v = (
            graph.view(draft.projected(sizes, name, normed), *shape, tokens)
            for name, shape in zip(present, shapes, strict=True)
        )
    q = graph.over(graph.over(q)) if "attn_q_norm.weight" in sizes else q
    k = graph.over(graph.over(k)) if "attn_k_norm.weight" in sizes else k
    return q, k, v


def attention(draft: Draft, layer: Layer, sizes: Sizes, normed: Node) -> Node:
    """Every head looks at every cell that its mask leaves."""
    graph, tokens = draft.graph, draft.batch.tokens
    inputs = draft.caches[layer.sliding]
    q, k, v = _heads(draft, layer, sizes, normed)
    if not draft.model.encoder:
        q, k = graph.over(q, draft.positions), graph.over(k, draft.positions)
        q = draft.rotated(q, inputs.rotation_k)
        k, v = draft.rotated(k, inputs.rotation_k), draft.rotated(v, inputs.rotation_v)
    for node in (q, k, v) if draft.batch.window_cells else (q, v, k):
        graph.expand(node)
    if draft.model.encoder:
        current = _encode(draft, layer, q, k, v)
    else:
        for node, count, rows in ((k, layer.key, inputs.rows_k), (v, layer.value, inputs.rows_v)):
            graph.expand(graph.store(graph.view(node, count * layer.kv_heads, tokens), rows))
        current = look(draft, layer, q, inputs.mask)
    current = graph.expand(graph.view(current, layer.heads * layer.value, tokens))
    if not draft.model.encoder:
        current = draft.rotated(current, inputs.rotation_v)
    return draft.projected(sizes, "attn_output", current)


def look(draft: Draft, layer: Layer, q: Node, mask: Node, value: int = 0) -> Node:
    """The weighted values: at once, or with the scores of every head written out."""
    graph, batch = draft.graph, draft.batch
    value = value or layer.value
    shown = graph.view(graph.view(q, *q.dims), *q.dims)
    if batch.flash:
        return graph.op((value, layer.heads, batch.tokens), shown, mask)
    cells = mask.dims[0]
    scores = graph.op((cells, batch.tokens // batch.streams, layer.heads, batch.streams), shown)
    mixed = graph.op((value, batch.tokens, layer.heads), graph.over(scores, mask))
    return graph.op((value * layer.heads, batch.tokens), graph.view(mixed, *mixed.dims))


def _encode(draft: Draft, layer: Layer, q: Node, k: Node, v: Node) -> Node:
    """Attention within the batch, without a cache."""
    graph = draft.graph
    shown = graph.view(graph.view(q, *q.dims), *q.dims)
    keys, values = (graph.view(node, *node.dims) for node in (k, v))
    tokens = draft.batch.tokens
    if draft.batch.flash:
        keys, values = (graph.op(node.dims, node, width=2) for node in (keys, values))
        return graph.op((layer.value, layer.heads, tokens), shown, keys, values, draft.caches[False].mask)
    scores = graph.over(graph.op((tokens, tokens, layer.heads), keys, shown), draft.caches[False].mask)
    mixed = graph.op((layer.value, tokens, layer.heads), graph.op(values.dims, values), scores)
    return graph.op((layer.value * layer.heads, tokens), graph.view(mixed, *mixed.dims))
