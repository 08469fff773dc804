"""The graphs that llama.cpp computes, drawn for their sizes: what its `build_*` functions do, as far as memory goes.

One function a building block of src/llama-graph.cpp and src/models/ (b11549), in their order. What a layer
consists of is read off the tensors in the file and not off its architecture's name, so that a model nobody has
seen is drawn as what it looks like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from uml.planning.llamacpp.graph import Graph, Node

Sizes = Mapping[str, tuple[int, ...]]
"""Name of a layer's tensor (`attn_q.weight`) -> its sizes, fastest first."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. tensors: (name, sizes) of each; sliding: its attention sees a window only.

    key, value: elements of a head; heads, kv_heads: how many there are.
    """

    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    sliding: bool
    heads: int
    kv_heads: int
    key: int
    value: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A model's graph in numbers: what `peak_bytes` depends on.

    experts_used, weights_normed: of a mixture; inner, state, groups, time_heads, kernel: of recurrent layers.
    rope: elements of a key's position part in latent attention. centred: norms subtract the mean (not RMS).
    """

    layers: tuple[Layer, ...]
    embedding: int
    vocabulary: int
    experts_used: int = 0
    weights_normed: bool = True
    rope: int = 0
    inner: int = 0
    state: int = 0
    groups: int = 1
    time_heads: int = 0
    kernel: int = 0
    centred: bool = False
    encoder: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What is computed at once.

    tokens, slots, outputs: of the batch; streams: caches it is spread over (1 when they are one).
    cells, window_cells: of one stream. rotate_k, rotate_v: a quantized cache is rotated first.
    """

    tokens: int
    slots: int
    outputs: int
    streams: int
    cells: int
    window_cells: int
    flash: bool = True
    rotate_k: int = 0
    rotate_v: int = 0


@lru_cache(maxsize=1024)
def peak_bytes(drawing: Drawing, batch: Batch) -> int | None:
    """The compute buffer of a model on one device; None where its tensors make no graph."""
    try:
        return _Draft(drawing, batch).draw().peak_bytes()
    except (LookupError, ZeroDivisionError):
        # A layer without a tensor that goes with another, or a matrix with one side: the header is a stranger's,
        # and llama.cpp would refuse it.
        return None


class _Inputs:
    """What is written for attention before a graph runs, once for each kind of cache.

    mask: what each token sees; rows_k, rows_v: where its keys and values go; rotation_k, rotation_v: matrices.
    """

    def __init__(self, graph: Graph, drawing: Drawing, batch: Batch, sliding: bool) -> None:
        width, tokens = 2 if batch.flash else 4, batch.tokens
        if drawing.encoder:
            self.mask = graph.input(tokens, tokens, width=width)
        else:
            cells = batch.window_cells if sliding else batch.cells
            self.mask = graph.input(cells, tokens // batch.streams, 1, batch.streams, width=width)
        # Without flash attention values lie transposed, and every element has a place of its own.
        widest = 1 if batch.flash else max(layer.kv_heads * layer.value for layer in drawing.layers)
        self.rows_k, self.rows_v = graph.input(tokens, width=8), graph.input(tokens * widest, width=8)
        self.rotation_k = graph.input(batch.rotate_k, batch.rotate_k) if batch.rotate_k else None
        self.rotation_v = graph.input(batch.rotate_v, batch.rotate_v) if batch.rotate_v else None


class _Draft:
    """A graph while it is drawn."""

    def __init__(self, drawing: Drawing, batch: Batch) -> None:
        self.model, self.batch = drawing, batch
        self.graph = Graph()
        graph, tokens = self.graph, batch.tokens
        self.positions = graph.input(tokens)
        self.caches = {sliding: _Inputs(graph, drawing, batch, sliding) for sliding in (False, True)}
        self.chosen = graph.input(batch.outputs)
        self.states = graph.input(batch.slots)

    def draw(self) -> Graph:
        graph, model, batch = self.graph, self.model, self.batch
        current = self.embedded()
        if model.encoder:
            current = graph.over(graph.op(current.dims, self.positions), current)
            current = graph.over(graph.op(current.dims, current))
        for layer in model.layers:
            current = self.layer(layer, current, last=layer is model.layers[-1])
        if model.encoder:
            pooled = graph.op(current.dims, current)
            graph.expand(graph.op((model.embedding, batch.slots), pooled, graph.input(batch.tokens, batch.slots)))
        else:
            current = self.norm(current)
            graph.expand(graph.op((model.vocabulary, batch.outputs), current))
        return graph

    def embedded(self) -> Node:
        """Vectors of the tokens. Room is also kept for ready vectors (images), and for a batch of both."""
        graph, batch = self.graph, self.batch
        size = (self.model.embedding, batch.tokens)
        tokens = graph.expand(graph.op(size, graph.input(batch.tokens)))
        mixed = graph.expand(graph.op(size, graph.input(batch.tokens)))
        graph.expand(graph.input(*size))
        copied = graph.op(size, graph.input(*size))
        graph.expand(graph.write(copied, mixed, graph.input(batch.tokens, width=8)))
        return tokens

    def layer(self, layer: Layer, before: Node, *, last: bool) -> Node:
        """From the residual stream to the residual stream."""
        graph, sizes = self.graph, dict(layer.tensors)
        normed = self.norm(before) if "attn_norm.weight" in sizes else before
        if "attn_kv_a_mqa.weight" in sizes:
            current = self.latent_attention(layer, sizes, normed)
        elif "ssm_in.weight" in sizes:
            current = self.recurrent(layer, sizes, before, normed)
        elif "attn_output.weight" in sizes:
            current = self.attention(layer, sizes, normed)
        else:
            current = self.other(sizes, normed)
        alongside = "ffn_norm.weight" not in sizes and "post_attention_norm.weight" not in sizes
        alongside = alongside and "attn_norm.weight" in sizes and _has_forward(sizes)
        if last:
            current, before = self.pick(current), self.pick(before)
            normed = self.pick(normed) if alongside else normed
        if alongside:
            forward = graph.over(self.forward(sizes, normed), before)
            return graph.over(forward, current)
        if "ffn_norm.weight" in sizes and "post_attention_norm.weight" in sizes:
            current = self.norm(current)
        joined = graph.over(current, before)
        if "attn_output_norm.weight" in sizes:
            joined = self.norm(joined)
        if not _has_forward(sizes):
            return joined
        normed = joined if "attn_output_norm.weight" in sizes else self.norm(joined)
        forward = self.forward(sizes, normed)
        if "post_ffw_norm.weight" in sizes:
            forward = self.norm(forward)
        current = graph.over(forward, joined)
        return self.norm(current) if "layer_output_norm.weight" in sizes else current

    def norm(self, node: Node) -> Node:
        """Normed and scaled; the kind that subtracts the mean cannot be computed in place."""
        graph = self.graph
        return graph.over(graph.op(node.dims, node) if self.model.centred else graph.over(node))

    def pick(self, node: Node) -> Node:
        """The tokens whose output is asked for."""
        return self.graph.op((node.dims[0], self.batch.outputs), node, self.chosen)

    def projected(self, sizes: Sizes, name: str, source: Node) -> Node:
        """A matrix applied, with its bias where there is one."""
        graph = self.graph
        tokens = source.dims[1] if len(source.dims) > 1 else 1
        found = graph.op((sizes[f"{name}.weight"][1], tokens), source)
        return graph.over(found) if f"{name}.bias" in sizes else found

    def heads(self, layer: Layer, sizes: Sizes, normed: Node) -> tuple[Node, Node, Node]:
        """Queries, keys and values, before their positions are told."""
        graph, tokens = self.graph, self.batch.tokens
        shapes = ((layer.key, layer.heads), (layer.key, layer.kv_heads), (layer.value, layer.kv_heads))
        if "attn_qkv.weight" in sizes:
            fused = self.projected(sizes, "attn_qkv", normed)
            q, k, v = (graph.view(fused, *shape, tokens) for shape in shapes)
        else:
            names = ("attn_q", "attn_k", "attn_v")
            # Without a matrix of their own, values are the keys (Gemma 4) or another layer's.
            present = [name if f"{name}.weight" in sizes else "attn_q" for name in names]
            q, k, v = (
                graph.view(self.projected(sizes, name, normed), *shape, tokens)
                for name, shape in zip(present, shapes, strict=True)
            )
        q = graph.over(graph.over(q)) if "attn_q_norm.weight" in sizes else q
        k = graph.over(graph.over(k)) if "attn_k_norm.weight" in sizes else k
        return q, k, v

    def attention(self, layer: Layer, sizes: Sizes, normed: Node) -> Node:
        """Every head looks at every cell that its mask leaves."""
        graph, tokens = self.graph, self.batch.tokens
        inputs = self.caches[layer.sliding]
        q, k, v = self.heads(layer, sizes, normed)
        if not self.model.encoder:
            q, k = graph.over(q, self.positions), graph.over(k, self.positions)
            q = self.rotated(q, inputs.rotation_k)
            k, v = self.rotated(k, inputs.rotation_k), self.rotated(v, inputs.rotation_v)
        for node in (q, k, v) if self.batch.window_cells else (q, v, k):
            graph.expand(node)
        if self.model.encoder:
            current = self.encode(layer, q, k, v)
        else:
            for node, count, rows in ((k, layer.key, inputs.rows_k), (v, layer.value, inputs.rows_v)):
                graph.expand(graph.store(graph.view(node, count * layer.kv_heads, tokens), rows))
            current = self.look(layer, q, inputs.mask)
        current = graph.expand(graph.view(current, layer.heads * layer.value, tokens))
        if not self.model.encoder:
            current = self.rotated(current, inputs.rotation_v)
        return self.projected(sizes, "attn_output", current)

    def look(self, layer: Layer, q: Node, mask: Node, value: int = 0) -> Node:
        """The weighted values: at once, or with the scores of every head written out."""
        graph, batch = self.graph, self.batch
        value = value or layer.value
        shown = graph.view(graph.view(q, *q.dims), *q.dims)
        if batch.flash:
            return graph.op((value, layer.heads, batch.tokens), shown, mask)
        cells = mask.dims[0]
        scores = graph.op((cells, batch.tokens // batch.streams, layer.heads, batch.streams), shown)
        mixed = graph.op((value, batch.tokens, layer.heads), graph.over(scores, mask))
        return graph.op((value * layer.heads, batch.tokens), graph.view(mixed, *mixed.dims))

    def encode(self, layer: Layer, q: Node, k: Node, v: Node) -> Node:
        """Attention within the batch, without a cache."""
        graph = self.graph
        shown = graph.view(graph.view(q, *q.dims), *q.dims)
        keys, values = (graph.view(node, *node.dims) for node in (k, v))
        tokens = self.batch.tokens
        if self.batch.flash:
            keys, values = (graph.op(node.dims, node, width=2) for node in (keys, values))
            return graph.op((layer.value, layer.heads, tokens), shown, keys, values, self.caches[False].mask)
        scores = graph.over(graph.op((tokens, tokens, layer.heads), keys, shown), self.caches[False].mask)
        mixed = graph.op((layer.value, tokens, layer.heads), graph.op(values.dims, values), scores)
        return graph.op((layer.value * layer.heads, tokens), graph.view(mixed, *mixed.dims))

    def rotated(self, node: Node, rotation: Node | None) -> Node:
        """Turned by a Hadamard matrix, as a quantized cache wants it."""
        if rotation is None:
            return node
        graph, side = self.graph, rotation.dims[0]
        count = node.size // node.width // side
        return graph.view(graph.op((side, count), rotation, graph.view(node, side, count)), *node.dims)

    def latent_attention(self, layer: Layer, sizes: Sizes, normed: Node) -> Node:
        """DeepSeek's: one compressed row a token, for all heads (`attn_k_b`), or expanded for each."""
        graph, tokens, rope = self.graph, self.batch.tokens, self.model.rope
        if "attn_q_a.weight" in sizes:
            q = self.projected(sizes, "attn_q_b", self.norm(self.projected(sizes, "attn_q_a", normed)))
        else:
            q = self.projected(sizes, "attn_q", normed)
        pressed = self.projected(sizes, "attn_kv_a_mqa", normed)
        rank = pressed.dims[0] - rope
        head = q.dims[0] // layer.heads
        q = graph.view(q, head, layer.heads, tokens)
        k_rope = graph.over(graph.view(pressed, rope, 1, tokens), self.positions)
        latent = self.norm(graph.view(pressed, rank, tokens))
        if "attn_k_b.weight" not in sizes:
            return self.expanded_latent(layer, sizes, q, latent, k_rope)
        q_rope = graph.over(graph.view(q, rope, layer.heads, tokens), self.positions)
        plain = graph.view(graph.view(q, head - rope, layer.heads, tokens), head - rope, tokens, layer.heads)
        absorbed = graph.view(graph.op((rank, tokens, layer.heads), plain), rank, layer.heads, tokens)
        q = graph.op((rank + rope, layer.heads, tokens), absorbed, q_rope)
        latent = graph.view(latent, rank, 1, tokens)
        k = graph.op((rank + rope, 1, tokens), latent, k_rope)
        for node in (q, latent, k):
            graph.expand(node)
        graph.expand(graph.store(graph.view(k, rank + rope, tokens), self.caches[False].rows_k))
        current = self.look(layer, q, self.caches[False].mask, rank)
        value = sizes["attn_v_b.weight"][1]
        current = graph.op((value, tokens, layer.heads), graph.view(current, *current.dims))
        current = graph.op((value * layer.heads, tokens), graph.view(current, *current.dims))
        return self.projected(sizes, "attn_output", graph.expand(current))

    def expanded_latent(self, layer: Layer, sizes: Sizes, q: Node, latent: Node, k_rope: Node) -> Node:
        """Keys and values of every head, from the compressed row."""
        graph, tokens = self.graph, self.batch.tokens
        both = self.projected(sizes, "attn_kv_b", latent)
        value = both.dims[0] // layer.heads - (q.dims[0] - self.model.rope)
        v = graph.op((value, layer.heads, tokens), graph.view(both, value, layer.heads, tokens))
        q = graph.over(q, self.positions)
        repeated = graph.op((self.model.rope, layer.heads, tokens), k_rope)
        k = graph.op((q.dims[0], layer.heads, tokens), graph.view(both, *v.dims), repeated)
        for node in (q, v, k):
            graph.expand(node)
        for node in (k, v):
            graph.expand(graph.store(graph.view(node, *node.dims), self.caches[False].rows_k))
        current = graph.view(self.look(layer, q, self.caches[False].mask, value), value * layer.heads, tokens)
        return self.projected(sizes, "attn_output", graph.expand(current))

    def recurrent(self, layer: Layer, sizes: Sizes, before: Node, normed: Node) -> Node:
        """Mamba, alone or beside an attention (Falcon-H1)."""
        if "attn_output.weight" not in sizes:
            return self.mamba(sizes, normed)
        attended = self.attention(layer, sizes, normed)
        return self.graph.over(attended, self.mamba(sizes, self.norm(before)))

    def gathered(self, size: int, count: int) -> Node:
        """States of slots, copied out of the cache."""
        return self.graph.op((size, max(1, count)), self.states)

    def mamba(self, sizes: Sizes, normed: Node) -> Node:
        """Selective state spaces, first (`ssm_x`) and second kind."""
        graph, model, slots, tokens = self.graph, self.model, self.batch.slots, self.batch.tokens
        first = "ssm_x.weight" in sizes
        each, inner = tokens // slots, model.inner
        wide = inner if first else inner + 2 * model.groups * model.state
        rows = (model.kernel - 1) * wide
        states = graph.view(graph.expand(self.gathered(rows, slots)), rows, slots)
        tail = graph.view(states, model.kernel - 1, wide, slots)
        mixed = self.projected(sizes, "ssm_in", normed)
        gate = graph.view(mixed, inner, tokens)
        window = graph.op((model.kernel - 1 + each, wide, slots), tail, graph.view(mixed, each, wide, slots))
        graph.expand(graph.store(graph.view(window, model.kernel - 1, wide, slots)))
        x = graph.over(graph.over(graph.op((wide, each, slots), window)))
        if first:
            parts = self.projected(sizes, "ssm_x", graph.view(x, wide, tokens))
            step = graph.op((sizes["ssm_dt.weight"][0], tokens), graph.view(parts, sizes["ssm_dt.weight"][0], tokens))
            step = self.projected(sizes, "ssm_dt", step)
            others = (graph.view(parts, model.state, tokens), graph.view(parts, model.state, tokens))
        else:
            step = graph.over(graph.op((model.time_heads, tokens), graph.view(mixed, model.time_heads, tokens)))
            others = (graph.view(x, model.state, tokens), graph.view(x, model.state, tokens))
        shown = graph.view(x, inner, tokens)
        scanned = graph.expand(graph.op((inner * tokens + model.state * inner * slots,), shown, step, *others))
        if slots > 1:
            size = model.state * inner
            graph.expand(graph.store(graph.view(self.gathered(size, slots - 1), size)))
        graph.expand(graph.store(graph.view(scanned, model.state * inner, slots)))
        y = graph.over(graph.view(scanned, inner, tokens), graph.op((inner, tokens), shown))
        y = graph.op((inner, tokens), graph.op((inner, tokens), gate), y)
        if "ssm_norm.weight" in sizes:
            y = self.norm(graph.view(y, inner, tokens))
        return self.projected(sizes, "ssm_out", graph.view(y, inner, tokens))

    def other(self, sizes: Sizes, normed: Node) -> Node:
        """A layer that nobody has drawn: its widest two matrices one after the other."""
        rows = sorted((dims[1] for name, dims in sizes.items() if len(dims) > 1 and not name.startswith("ffn_")))
        found = normed
        for width in rows[-2:]:
            found = self.graph.op((width, self.batch.tokens), found)
        return self.graph.op(normed.dims, found, normed)

    def forward(self, sizes: Sizes, normed: Node) -> Node:
        """The feed-forward part, dense or of experts."""
        if "ffn_gate_inp.weight" not in sizes:
            return self.dense(sizes, normed, "")
        mixture = self.experts(sizes, normed)
        if "ffn_up_shexp.weight" in sizes:
            return self.graph.over(mixture, self.dense(sizes, normed, "_shexp"))
        return mixture

    def dense(self, sizes: Sizes, normed: Node, suffix: str) -> Node:
        """Up, gate and down; gate and up may be one matrix."""
        graph = self.graph
        up = self.projected(sizes, f"ffn_up{suffix}", normed)
        inside = (sizes[f"ffn_down{suffix}.weight"][0], *up.dims[1:])
        if f"ffn_gate{suffix}.weight" in sizes:
            up = graph.op(inside, self.projected(sizes, f"ffn_gate{suffix}", normed), up)
        else:
            up = graph.over(up) if up.dims == inside else graph.op(inside, up)
        return self.projected(sizes, f"ffn_down{suffix}", up)

    def experts(self, sizes: Sizes, normed: Node) -> Node:
        """The experts that the router chose, weighed and summed."""
        graph, used = self.graph, self.model.experts_used
        tokens = normed.dims[1] if len(normed.dims) > 1 else 1
        logits = self.projected(sizes, "ffn_gate_inp", normed)
        chances = graph.over(logits)
        biased = graph.over(chances) if "exp_probs_b.bias" in sizes else chances
        order = graph.op(biased.dims, biased)
        top = graph.view(order, used, tokens)
        weights = graph.op((1, used, tokens), graph.view(chances, 1, *logits.dims), top)
        if self.model.weights_normed:
            flat = graph.view(weights, used, tokens)
            total = graph.op((1, tokens), flat)
            weights = graph.view(graph.over(flat, graph.view(total, 1, tokens)), 1, used, tokens)
        graph.expand(weights)
        spread = graph.view(normed, normed.dims[0], 1, tokens)
        inside = graph.op((sizes["ffn_down_exps.weight"][0], used, tokens), *self.gated(sizes, spread, top, tokens))
        found = self.chosen_of(sizes, "ffn_down_exps", inside, top, tokens)
        found = graph.expand(graph.over(found, weights))
        shares = [graph.expand(graph.view(found, found.dims[0], tokens)) for _ in range(used)]
        mixture = graph.over(*shares[:2]) if used > 1 else graph.op(shares[0].dims, shares[0])
        graph.expand(mixture)
        for share in shares[2:]:
            mixture = graph.expand(graph.over(mixture, share))
        return mixture

    def gated(self, sizes: Sizes, spread: Node, top: Node, tokens: int) -> tuple[Node, ...]:
        """Gate and up of the chosen experts."""
        if "ffn_gate_up_exps.weight" in sizes:
            both = self.chosen_of(sizes, "ffn_gate_up_exps", spread, top, tokens)
            half = (both.dims[0] // 2, self.model.experts_used, tokens)
            return self.graph.view(both, *half), self.graph.view(both, *half)
        up = self.chosen_of(sizes, "ffn_up_exps", spread, top, tokens)
        if "ffn_gate_exps.weight" not in sizes:
            return (up,)
        return self.chosen_of(sizes, "ffn_gate_exps", spread, top, tokens), up

    def chosen_of(self, sizes: Sizes, name: str, source: Node, top: Node, tokens: int) -> Node:
        """The matrices of the chosen experts applied."""
        found = self.graph.op((sizes[f"{name}.weight"][1], self.model.experts_used, tokens), source, top)
        return self.graph.over(found) if f"{name}.bias" in sizes else found


def _has_forward(sizes: Sizes) -> bool:
    return "ffn_down.weight" in sizes or "ffn_down_exps.weight" in sizes
