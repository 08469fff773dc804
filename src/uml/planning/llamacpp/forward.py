"""The feed-forward part of a layer: dense, or experts that a router chooses."""

from __future__ import annotations

from uml.planning.llamacpp.draft import Draft
from uml.planning.llamacpp.graph import Node
from uml.planning.llamacpp.model import Sizes


def forward(draft: Draft, sizes: Sizes, normed: Node) -> Node:
    """The feed-forward part, dense or of experts."""
    if "ffn_gate_inp.weight" not in sizes:
        return _dense(draft, sizes, normed, "")
    mixture = _experts(draft, sizes, normed)
    if "ffn_up_shexp.weight" in sizes:
        return draft.graph.over(mixture, _dense(draft, sizes, normed, "_shexp"))
    return mixture


def _dense(draft: Draft, sizes: Sizes, normed: Node, suffix: str) -> Node:
    """Up, gate and down; gate and up may be one matrix."""
    graph = draft.graph
    up = draft.projected(sizes, f"ffn_up{suffix}", normed)
    inside = (sizes[f"ffn_down{suffix}.weight"][0], *up.dims[1:])
    if f"ffn_gate{suffix}.weight" in sizes:
        up = graph.op(inside, draft.projected(sizes, f"ffn_gate{suffix}", normed), up)
    else:
        up = graph.over(up) if up.dims == inside else graph.op(inside, up)
    return draft.projected(sizes, f"ffn_down{suffix}", up)


def _experts(draft: Draft, sizes: Sizes, normed: Node) -> Node:
    """The experts that the router chose, weighed and summed."""
    graph, used = draft.graph, draft.model.experts_used
    tokens = normed.dims[1] if len(normed.dims) > 1 else 1
    logits = draft.projected(sizes, "ffn_gate_inp", normed)
    chances = graph.over(logits)
    biased = graph.over(chances) if "exp_probs_b.bias" in sizes else chances
    order = graph.op(biased.dims, biased)
    top = graph.view(order, used, tokens)
    weights = graph.op((1, used, tokens), graph.view(chances, 1, *logits.dims), top)
    if draft.model.weights_normed:
        flat = graph.view(weights, used, tokens)
        total = graph.op((1, tokens), flat)
        weights = graph.view(graph.over(flat, graph.view(total, 1, tokens)), 1, used, tokens)
    graph.expand(weights)
    spread = graph.view(normed, normed.dims[0], 1, tokens)
    inside = graph.op((sizes["ffn_down_exps.weight"][0], used, tokens), *_gated(draft, sizes, spread, top, tokens))
    found = _chosen_of(draft, sizes, "ffn_down_exps", inside, top, tokens)
    found = graph.expand(graph.over(found, weights))
    shares = [graph.expand(graph.view(found, found.dims[0], tokens)) for _ in range(used)]
    mixture = graph.over(*shares[:2]) if used > 1 else graph.op(shares[0].dims, shares[0])
    graph.expand(mixture)
    for share in shares[2:]:
        mixture = graph.expand(graph.over(mixture, share))
    return mixture


def _gated(draft: Draft, sizes: Sizes, spread: Node, top: Node, tokens: int) -> tuple[Node, ...]:
    """Gate and up of the chosen experts."""
    if "ffn_gate_up_exps.weight" in sizes:
        both = _chosen_of(draft, sizes, "ffn_gate_up_exps", spread, top, tokens)
        half = (both.dims[0] // 2, draft.model.experts_used, tokens)
        return draft.graph.view(both, *half), draft.graph.view(both, *half)
    up = _chosen_of(draft, sizes, "ffn_up_exps", spread, top, tokens)
    if "ffn_gate_exps.weight" not in sizes:
        return (up,)
    return _chosen_of(draft, sizes, "ffn_gate_exps", spread, top, tokens), up


def _chosen_of(draft: Draft, sizes: Sizes, name: str, source: Node, top: Node, tokens: int) -> Node:
    """The matrices of the chosen experts applied."""
    found = draft.graph.op((sizes[f"{name}.weight"][1], draft.model.experts_used, tokens), source, top)
    return draft.graph.over(found) if f"{name}.bias" in sizes else found
