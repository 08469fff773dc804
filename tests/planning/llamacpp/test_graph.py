"""The allocator of ggml, played through."""

from uml.planning.llamacpp.graph import Graph, Node

ROW = 1024


def row(graph: Graph, *sources: Node) -> Node:
    """An operation whose result takes one row of memory."""
    return graph.op((ROW // 4,), *sources)


def rows(graph: Graph) -> int:
    """The size of the buffer, in rows."""
    assert graph.peak_bytes() % ROW == 0
    return graph.peak_bytes() // ROW


def test_what_nobody_reads_any_more_is_used_again() -> None:
    graph = Graph()
    last = row(graph, graph.input(ROW // 4))
    for _ in range(10):
        last = row(graph, last)
    graph.expand(last)
    assert rows(graph) == 2


def test_what_is_still_to_be_read_stays() -> None:
    graph = Graph()
    first = row(graph, graph.input(ROW // 4))
    graph.expand(graph.over(row(graph, row(graph, first)), first))
    assert rows(graph) == 3


def test_a_sum_is_written_over_a_source_that_nobody_else_reads() -> None:
    graph = Graph()
    first = row(graph, graph.input(ROW // 4))
    graph.expand(graph.over(first))
    assert rows(graph) == 2


def test_a_view_keeps_what_it_shows_and_is_never_written_over() -> None:
    graph = Graph()
    first = row(graph, graph.input(ROW // 4))
    graph.expand(graph.over(graph.view(first, ROW // 4)))
    assert rows(graph) == 2, "the input has gone by then, the first row has not"


def test_an_input_that_nobody_reads_is_kept() -> None:
    graph = Graph()
    graph.expand(graph.input(ROW // 4))
    graph.expand(row(graph, row(graph, graph.input(ROW // 4))))
    assert rows(graph) == 3


def test_a_cache_takes_nothing() -> None:
    graph = Graph()
    first = row(graph, graph.input(ROW // 4))
    graph.expand(graph.store(graph.view(first, ROW // 4)))
    assert rows(graph) == 2


def test_the_best_fitting_hole_is_taken() -> None:
    graph = Graph()
    large, wall, small, end = (graph.expand(graph.op((ROW // 4 * size,))) for size in (3, 1, 1, 1))
    graph.expand(graph.view(graph.op((1,), large, small), 1))
    little = graph.expand(row(graph))
    much = graph.expand(graph.op((ROW // 4 * 3,)))
    graph.expand(graph.op((1,), little, much, wall, end))
    assert -(-graph.peak_bytes() // ROW) == 7, "six rows that were there, and what came out between"
