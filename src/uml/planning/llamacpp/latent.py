"""Latent attention, as DeepSeek's: keys and values of all heads pressed into one row a token."""

from __future__ import annotations

from uml.planning.llamacpp.attention import look
from uml.planning.llamacpp.draft import Draft
from uml.planning.llamacpp.graph import Node
from uml.planning.llamacpp.model import Layer, Sizes


def latent_attention(draft: Draft, layer: Layer, sizes: Sizes, normed: Node) -> Node:
    """DeepSeek's: one compressed row a token, for all heads (`attn_k_b`), or expanded for each."""
    graph, tokens, rope = draft.graph, draft.batch.tokens, draft.model.rope
    if "attn_q_a.weight" in sizes:
        q = draft.projected(sizes, "attn_q_b", draft.norm(draft.projected(sizes, "attn_q_a", normed)))
    else:
        q = draft.projected(sizes, "attn_q", normed)
    pressed = draft.projected(sizes, "attn_kv_a_mqa", normed)
    rank = pressed.dims[0] - rope
    head = q.dims[0] // layer.heads
    q = graph.view(q, head, layer.heads, tokens)
    k_rope = graph.over(graph.view(pressed, rope, 1, tokens), draft.positions)
    latent = draft.norm(graph.view(pressed, rank, tokens))
    if "attn_k_b.weight" not in sizes:
        return _expanded_latent(draft, layer, sizes, q, latent, k_rope)
    q_rope = graph.over(graph.view(q, rope, layer.heads, tokens), draft.positions)
    plain = graph.view(graph.view(q, head - rope, layer.heads, tokens), head - rope, tokens, layer.heads)
    absorbed = graph.view(graph.op((rank, tokens, layer.heads), plain), rank, layer.heads, tokens)
    q = graph.op((rank + rope, layer.heads, tokens), absorbed, q_rope)
    latent = graph.view(latent, rank, 1, tokens)
    k = graph.op((rank + rope, 1, tokens), latent, k_rope)
    for node in (q, latent, k):
        graph.expand(node)
    graph.expand(graph.store(graph.view(k, rank + rope, tokens), draft.caches[False].rows_k))
    current = look(draft, layer, q, draft.caches[False].mask, rank)
    value = sizes["attn_v_b.weight"][1]
    current = graph.op((value, tokens, layer.heads), graph.view(current, *current.dims))
    current = graph.op((value * layer.heads, tokens), graph.view(current, *current.dims))
    return draft.projected(sizes, "attn_output", graph.expand(current))


def _expanded_latent(draft: Draft, layer: Layer, sizes: Sizes, q: Node, latent: Node, k_rope: Node) -> Node:
    """Keys and values of every head, from the compressed row."""
    graph, tokens = draft.graph, draft.batch.tokens
    both = draft.projected(sizes, "attn_kv_b", latent)
    value = both.dims[0] // layer.heads - (q.dims[0] - draft.model.rope)
    v = graph.op((value, layer.heads, tokens), graph.view(both, value, layer.heads, tokens))
    q = graph.over(q, draft.positions)
    repeated = graph.op((draft.model.rope, layer.heads, tokens), k_rope)
    k = graph.op((q.dims[0], layer.heads, tokens), graph.view(both, *v.dims), repeated)
    for node in (q, v, k):
        graph.expand(node)
    for node in (k, v):
        graph.expand(graph.store(graph.view(node, *node.dims), draft.caches[False].rows_k))
    current = graph.view(look(draft, layer, q, draft.caches[False].mask, value), value * layer.heads, tokens)
    return draft.projected(sizes, "attn_output", graph.expand(current))
