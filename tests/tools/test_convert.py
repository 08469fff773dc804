"""The demo model's file comes out of its source, and says the same in every type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.demo_model.convert import TYPES, convert, gguf_name, permuted
from uml.formats import inspect
from uml.registry import packaged_model

SOURCE = Path("src/uml/models/demo-safetensors")


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_is_read_back_as_what_it_is(tmp_path: Path, kind: str) -> None:
    info = inspect(convert(SOURCE, tmp_path / f"demo-{kind}.gguf", kind))
    assert info.quantization is not None
    assert info.quantization.label.lower() == kind
    assert (info.architecture, info.context_length, info.parameters) == ("llama", 2048, 5_233_920)
    assert info.shape is not None
    assert (info.shape.layers, info.shape.kv_heads, info.shape.vocabulary) == (6, (2,) * 6, 2000)
    assert info.chat_template is not None
    assert "<|im_start|>" in info.chat_template


def test_the_file_that_ships_is_the_one_that_is_made(tmp_path: Path) -> None:
    made = convert(SOURCE, tmp_path / "demo.gguf", "q8_0")
    shipped = packaged_model()
    assert shipped is not None
    assert made.read_bytes() == shipped.read_bytes(), "make it anew with: make demo-model"


def test_rows_are_paired_the_way_llama_cpp_rotates_them() -> None:
    # One head of four rows: Hugging Face has the halves (0 1)(2 3), llama.cpp the pairs (0 2)(1 3).
    rows = np.arange(4).reshape(4, 1)
    assert permuted(rows, heads=1).ravel().tolist() == [0, 2, 1, 3]


def test_names_of_tensors_outside_and_inside_of_layers() -> None:
    assert gguf_name("model.embed_tokens.weight") == "token_embd.weight"
    assert gguf_name("model.layers.3.self_attn.o_proj.weight") == "blk.3.attn_output.weight"
