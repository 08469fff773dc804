"""The graphs that llama.cpp computes, drawn for their sizes: what its `build_*` functions do, as far as memory goes.

One function a building block of src/llama-graph.cpp and src/models/ (b11549), in their order: whole models and layers
here, what layers are made of beside. What a layer
consists of is read off the tensors in the file and not off its architecture's name, so that a model nobody has
seen is drawn as what it looks like.
"""

from __future__ import annotations

from functools import lru_cache

from uml.planning.llamacpp.attention import attention
from uml.planning.llamacpp.draft import Draft
from uml.planning.llamacpp.forward import forward
from uml.planning.llamacpp.graph import Graph, Node
from uml.planning.llamacpp.latent import latent_attention
from uml.planning.llamacpp.mamba import mamba
from uml.planning.llamacpp.model import Batch, Drawing, Layer, Sizes


@lru_cache(maxsize=1024)
def peak_bytes(drawing: Drawing, batch: Batch) -> int | None:
    """The compute buffer of a model on one device; None where its tensors make no graph."""
    try:
        return _draw(Draft(drawing, batch)).peak_bytes()
    except (LookupError, ZeroDivisionError):
        # A layer without a tensor that goes with another, or a matrix with one side: the header is a stranger's,
        # and llama.cpp would refuse it.
        return None


def _draw(draft: Draft) -> Graph:
    graph, model, batch = draft.graph, draft.model, draft.batch
    current = _embedded(draft)
    if model.encoder:
        current = graph.over(graph.op(current.dims, draft.positions), current)
        current = graph.over(graph.op(current.dims, current))
    for layer in model.layers:
        current = _layer(draft, layer, current, last=layer is model.layers[-1])
    if model.encoder:
        pooled = graph.op(current.dims, current)
        graph.expand(graph.op((model.embedding, batch.slots), pooled, graph.input(batch.tokens, batch.slots)))
    else:
        current = draft.norm(current)
        graph.expand(graph.op((model.vocabulary, batch.outputs), current))
    return graph


def _embedded(draft: Draft) -> Node:
    """Vectors of the tokens. Room is also kept for ready vectors (images), and for a batch of both."""
    graph, batch = draft.graph, draft.batch
    size = (draft.model.embedding, batch.tokens)
    tokens = graph.expand(graph.op(size, graph.input(batch.tokens)))
    mixed = graph.expand(graph.op(size, graph.input(batch.tokens)))
    graph.expand(graph.input(*size))
    copied = graph.op(size, graph.input(*size))
    graph.expand(graph.write(copied, mixed, graph.input(batch.tokens, width=8)))
    return tokens


def _layer(draft: Draft, layer: Layer, before: Node, *, last: bool) -> Node:
    """From the residual stream to the residual stream."""
    graph, sizes = draft.graph, dict(layer.tensors)
    normed = draft.norm(before) if "attn_norm.weight" in sizes else before
    if "attn_kv_a_mqa.weight" in sizes:
        current = latent_attention(draft, layer, sizes, normed)
    elif "ssm_in.weight" in sizes:
        current = _recurrent(draft, layer, sizes, before, normed)
    elif "attn_output.weight" in sizes:
        current = attention(draft, layer, sizes, normed)
    else:
        current = _other(draft, sizes, normed)
    alongside = "ffn_norm.weight" not in sizes and "post_attention_norm.weight" not in sizes
    alongside = alongside and "attn_norm.weight" in sizes and _has_forward(sizes)
    if last:
        current, before = draft.pick(current), draft.pick(before)
        normed = draft.pick(normed) if alongside else normed
    if alongside:
        return graph.over(graph.over(forward(draft, sizes, normed), before), current)
    if "ffn_norm.weight" in sizes and "post_attention_norm.weight" in sizes:
        current = draft.norm(current)
    joined = graph.over(current, before)
    if "attn_output_norm.weight" in sizes:
        joined = draft.norm(joined)
    if not _has_forward(sizes):
        return joined
    normed = joined if "attn_output_norm.weight" in sizes else draft.norm(joined)
    fed = forward(draft, sizes, normed)
    if "post_ffw_norm.weight" in sizes:
        fed = draft.norm(fed)
    current = graph.over(fed, joined)
    return draft.norm(current) if "layer_output_norm.weight" in sizes else current


def _recurrent(draft: Draft, layer: Layer, sizes: Sizes, before: Node, normed: Node) -> Node:
    """Mamba, alone or beside an attention (Falcon-H1)."""
    if "attn_output.weight" not in sizes:
        return mamba(draft, sizes, normed)
    attended = attention(draft, layer, sizes, normed)
    return draft.graph.over(attended, mamba(draft, sizes, draft.norm(before)))


def _other(draft: Draft, sizes: Sizes, normed: Node) -> Node:
    """A layer that nobody has drawn: its widest two matrices one after the other."""
    rows = sorted((dims[1] for name, dims in sizes.items() if len(dims) > 1 and not name.startswith("ffn_")))
    found = normed
    for width in rows[-2:]:
        found = draft.graph.op((width, draft.batch.tokens), found)
    return draft.graph.op(normed.dims, found, normed)


def _has_forward(sizes: Sizes) -> bool:
    return "ffn_down.weight" in sizes or "ffn_down_exps.weight" in sizes
