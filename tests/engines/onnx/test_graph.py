"""How the runtime is told to load a graph."""

from __future__ import annotations

from pathlib import Path

from uml.engines.onnx.graph import folding
from uml.planning.genai_weights import MOST_FOLDED


def test_a_quantized_graph_is_not_turned_while_it_is_loaded(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"\x08\x0a" + b"\0" * 100 + b"\x22\x0bMatMulNBits")
    assert folding(graph) == {"optimization.constant_folding_max_output_size_in_bytes": str(MOST_FOLDED)}


def test_others_are_for_they_would_be_at_every_token(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"\x22\x06MatMul")
    assert folding(graph) == {}


def test_a_graph_that_is_not_there_is_the_runtimes_to_refuse(tmp_path: Path) -> None:
    empty = tmp_path / "model.onnx"
    empty.touch()
    assert folding(empty) == folding(tmp_path / "none.onnx") == {}
