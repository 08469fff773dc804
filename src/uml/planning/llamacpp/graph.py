"""How large a buffer ggml needs for a graph: its own allocator, played through without the memory.

`ggml_gallocr` (ggml/src/ggml-alloc.c of build b11549) walks the nodes of a graph in order: a node takes the best
fitting free block, or the place of a source that nobody else reads; a source is given back after its last reader.
What it has touched at the end is the `compute buffer size` of the log. To say that, sizes and who reads whom are
enough.
"""

from __future__ import annotations

from math import prod
from typing import Final

ALIGNMENT: Final = 32
"""Bytes to which the processor's allocations are rounded up (TENSOR_ALIGNMENT)."""

Dims = tuple[int, ...]


class Node:
    """A tensor of the graph.

    dims: sizes, fastest first, without trailing ones; width: bytes of an element.
    root: the node whose memory a view shows; outside: it shows memory that the graph does not own (a cache).
    inplace: the operation may write over a source.
    """

    __slots__ = (
        "at", "children", "dims", "inplace", "leaf", "outside", "owned", "root", "size", "sources", "views", "visited",
        "width",
    )  # fmt: skip

    def __init__(self, dims: Dims, sources: tuple[Node, ...], *, width: int = 4, inplace: bool = False) -> None:
        while len(dims) > 1 and dims[-1] == 1:
            dims = dims[:-1]
        self.dims, self.sources, self.width, self.inplace = dims, sources, width, inplace
        self.size = -(-max(0, prod(dims)) * width // ALIGNMENT) * ALIGNMENT
        self.root: Node | None = None
        self.outside = self.leaf = self.visited = self.owned = False
        self.at = self.children = self.views = 0

    def same_layout(self, other: Node) -> bool:
        """Whether one could stand in the other's place, element by element."""
        return self.dims == other.dims and self.width == other.width


class Graph:
    """Nodes in the order in which llama.cpp builds and computes them."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.leaves: list[Node] = []

    def input(self, *dims: int, width: int = 4) -> Node:
        """What is written before the graph runs: token ids, positions, masks."""
        node = Node(dims, (), width=width)
        node.leaf = True
        return node

    def op(self, dims: Dims, *sources: Node, width: int = 4) -> Node:
        """An operation that needs memory for what comes out: a product, a copy, an attention."""
        return Node(dims, sources, width=width)

    def over(self, *sources: Node) -> Node:
        """An operation that may write over its first source, or another of its size: a sum, a norm, a rotation."""
        return Node(sources[0].dims, sources, width=sources[0].width, inplace=True)

    def view(self, source: Node, *dims: int) -> Node:
        """A part of a node, or the whole under other sizes or in another order."""
        node = Node(dims, (source,), width=source.width)
        node.root = source.root or source
        return node

    def write(self, into: Node, *sources: Node) -> Node:
        """Rows written into another node."""
        node = Node(into.dims, (*sources, into), width=into.width)
        node.root = into.root or into
        return node

    def store(self, *sources: Node) -> Node:
        """Rows written into a cache, which has memory of its own."""
        node = Node((1,), sources)
        node.outside = True
        return node

    def expand(self, node: Node) -> Node:
        """Add a node and what it needs that is not there yet, sources first and from left to right."""
        if not node.visited:
            node.visited = True
            for source in node.sources:
                self.expand(source)
            (self.leaves if node.leaf else self.nodes).append(node)
        return node

    def peak_bytes(self) -> int:
        """Bytes of the buffer in which the graph can be computed."""
        memory = _Memory()
        for node in (*self.leaves, *self.nodes):
            node.owned, node.children, node.views = False, 0, 0
        for leaf in self.leaves:
            _place(leaf, memory)
        for node in self.nodes:
            if node.root is not None:
                node.root.views += 1
            for source in node.sources:
                source.children += 1
        for node in self.nodes:
            _place(node, memory)
            for source in node.sources:
                source.children -= 1
                if source.children or source.views:
                    continue
                root = source.root
                if root is None:
                    if source.owned:
                        memory.free(source)
                    continue
                root.views -= 1
                if not root.views and not root.children and root.owned:
                    memory.free(root)
        return memory.high


class _Memory:
    """Free blocks by address; behind the last of them there is no end."""

    __slots__ = ("blocks", "end", "high")

    def __init__(self) -> None:
        self.blocks: list[list[int]] = []
        """Offset and size of each block but the last, which begins at `end`."""
        self.end = 0
        self.high = 0

    def take(self, size: int) -> int:
        """Where so many bytes are put: in the smallest block that has room, the last of equals."""
        best = -1
        for index, (_, room) in enumerate(self.blocks):
            if room >= size and (best < 0 or room <= self.blocks[best][1]):
                best = index
        if best < 0:
            at = self.end
            self.end += size
            self.high = max(self.high, self.end)
            return at
        block = self.blocks[best]
        at = block[0]
        block[0] += size
        block[1] -= size
        if not block[1]:
            del self.blocks[best]
        return at

    def free(self, node: Node) -> None:
        """Give back what a node holds."""
        node.owned = False
        self.give(node.at, node.size)

    def give(self, at: int, size: int) -> None:
        """Let this block be free again, joined with free ones that touch it."""
        index = 0
        while index < len(self.blocks) and self.blocks[index][0] < at:
            index += 1
        self.blocks.insert(index, [at, size])
        if index + 1 < len(self.blocks) and at + size == self.blocks[index + 1][0]:
            self.blocks[index][1] += self.blocks.pop(index + 1)[1]
        if index and sum(self.blocks[index - 1]) == at:
            self.blocks[index - 1][1] += self.blocks.pop(index)[1]
        if self.blocks and sum(self.blocks[-1]) == self.end:
            self.end = self.blocks.pop()[0]


def _place(node: Node, memory: _Memory) -> None:
    """Give a node its memory: a source's that nobody else reads, or a block of its own."""
    if node.root is not None or node.outside or node.owned:
        return
    node.owned = True
    for parent in node.sources if node.inplace else ():
        # A view owns nothing, so that what it shows is never written over.
        if parent.owned and node.same_layout(parent) and parent.children == 1 and not parent.views:
            node.at, parent.owned = parent.at, False
            return
    node.at = memory.take(node.size)
