"""A graph while it is drawn, and the strokes that all blocks share."""

from __future__ import annotations

from uml.planning.llamacpp.graph import Graph, Node
from uml.planning.llamacpp.model import Batch, Drawing, Sizes


class Inputs:
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


class Draft:
    """A graph while it is drawn: its inputs, and the strokes that every block is made of."""

    def __init__(self, drawing: Drawing, batch: Batch) -> None:
        self.model, self.batch = drawing, batch
        self.graph = Graph()
        graph, tokens = self.graph, batch.tokens
        self.positions = graph.input(tokens)
        self.caches = {sliding: Inputs(graph, drawing, batch, sliding) for sliding in (False, True)}
        self.chosen = graph.input(batch.outputs)
        self.states = graph.input(batch.slots)

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

    def rotated(self, node: Node, rotation: Node | None) -> Node:
        """Turned by a Hadamard matrix, as a quantized cache wants it."""
        if rotation is None:
            return node
        graph, side = self.graph, rotation.dims[0]
        count = node.size // node.width // side
        return graph.view(graph.op((side, count), rotation, graph.view(node, side, count)), *node.dims)
