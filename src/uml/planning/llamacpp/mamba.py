"""Selective state spaces: Mamba's first and second kind."""

from __future__ import annotations

from uml.planning.llamacpp.draft import Draft
from uml.planning.llamacpp.graph import Node
from uml.planning.llamacpp.model import Sizes


def mamba(draft: Draft, sizes: Sizes, normed: Node) -> Node:
    """Selective state spaces, first (`ssm_x`) and second kind."""
    graph, model, slots, tokens = draft.graph, draft.model, draft.batch.slots, draft.batch.tokens
    first = "ssm_x.weight" in sizes
    each, inner = tokens // slots, model.inner
    wide = inner if first else inner + 2 * model.groups * model.state
    rows = (model.kernel - 1) * wide
    states = graph.view(graph.expand(_gathered(draft, rows, slots)), rows, slots)
    tail = graph.view(states, model.kernel - 1, wide, slots)
    mixed = draft.projected(sizes, "ssm_in", normed)
    gate = graph.view(mixed, inner, tokens)
    window = graph.op((model.kernel - 1 + each, wide, slots), tail, graph.view(mixed, each, wide, slots))
    graph.expand(graph.store(graph.view(window, model.kernel - 1, wide, slots)))
    x = graph.over(graph.over(graph.op((wide, each, slots), window)))
    if first:
        parts = draft.projected(sizes, "ssm_x", graph.view(x, wide, tokens))
        step = graph.op((sizes["ssm_dt.weight"][0], tokens), graph.view(parts, sizes["ssm_dt.weight"][0], tokens))
        step = draft.projected(sizes, "ssm_dt", step)
        others = (graph.view(parts, model.state, tokens), graph.view(parts, model.state, tokens))
    else:
        step = graph.over(graph.op((model.time_heads, tokens), graph.view(mixed, model.time_heads, tokens)))
        others = (graph.view(x, model.state, tokens), graph.view(x, model.state, tokens))
    shown = graph.view(x, inner, tokens)
    scanned = graph.expand(graph.op((inner * tokens + model.state * inner * slots,), shown, step, *others))
    if slots > 1:
        size = model.state * inner
        graph.expand(graph.store(graph.view(_gathered(draft, size, slots - 1), size)))
    graph.expand(graph.store(graph.view(scanned, model.state * inner, slots)))
    y = graph.over(graph.view(scanned, inner, tokens), graph.op((inner, tokens), shown))
    y = graph.op((inner, tokens), graph.op((inner, tokens), gate), y)
    if "ssm_norm.weight" in sizes:
        y = draft.norm(graph.view(y, inner, tokens))
    return draft.projected(sizes, "ssm_out", graph.view(y, inner, tokens))


def _gathered(draft: Draft, size: int, count: int) -> Node:
    """States of slots, copied out of the cache."""
    return draft.graph.op((size, max(1, count)), draft.states)
