"""The demo model in ONNX, made and asked by engines that are installed: UML_TEST_ENGINES, a data folder with both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")

from tokenizers import Tokenizer

from tools.demo_model import in_onnx
from tools.demo_model.perplexity import held_out, perplexity, read_gguf
from uml.registry import packaged_model
from uml.runtime.installs import Installs

DATA = Path(os.environ.get("UML_TEST_ENGINES", "/nonexistent"))
ENGINES = Installs(DATA / "engines")
DEMO = packaged_model()


@pytest.mark.slow  # the builder imports PyTorch, and writes every weight twice
@pytest.mark.skipif(
    not (ENGINES.find("onnx", "") and ENGINES.find("onnx-builder", "")),
    reason="UML_TEST_ENGINES names no folder with onnx and onnx-builder",
)
def test_in_onnx_it_is_as_little_surprised_as_the_file_that_ships(tmp_path: Path) -> None:
    source = DEMO.with_name("demo-safetensors")
    several = held_out(Tokenizer.from_file(str(source / "tokenizer.json")), 20)
    made = in_onnx.write(source, tmp_path / "demo-onnx", DATA)
    assert in_onnx.perplexity(made, several, DATA) == pytest.approx(perplexity(*read_gguf(DEMO), several), rel=0.02)
