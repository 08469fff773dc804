"""The model that engines are tried with: what it must answer is computed here, by hand."""

from __future__ import annotations

from pathlib import Path

from tests.runtime.installs.reference import greedy
from uml.core.model import Format
from uml.formats import inspect
from uml.runtime.installs import tiny, tiny_gguf, tiny_gptq, tiny_onnx


def test_its_answer_is_what_the_formulas_give_and_no_close_call() -> None:
    text, closest = greedy(len(tiny.ANSWER))
    assert text == tiny.ANSWER
    # Logits are about 3 in size; BF16 has 8 bits.
    assert closest > 0.25
    assert tiny.CHARACTERS[-1] not in text, "it does not end before"


def test_of_4_bits_its_answer_is_known_too(tmp_path: Path) -> None:
    text, closest = greedy(len(tiny_gptq.ANSWER), tensors=tiny_gptq.weights())
    assert text == tiny_gptq.ANSWER
    assert closest > 0.25
    assert tiny.CHARACTERS[-1] not in text, "it does not end before"
    found = inspect(tiny_gptq.write(tmp_path / "tiny"))
    assert found.quantization is not None
    assert (found.quantization.method, found.parameters) == ("gptq", 213_632)


def test_it_is_a_model_as_others(tmp_path: Path) -> None:
    found = inspect(tiny.write(tmp_path / "tiny"))
    assert (found.format, found.architecture) == (Format.SAFETENSORS, "LlamaForCausalLM")
    assert found.parameters == 213_632
    assert found.context_length == tiny.CONTEXT
    assert found.shape is not None
    assert found.shape.layers == tiny.LAYERS
    assert len(set(tiny.CHARACTERS)) == tiny.WORDS


def test_it_is_written_for_onnx_too(tmp_path: Path) -> None:
    found = inspect(tiny_onnx.write(tmp_path / "tiny"))
    assert (found.format, found.context_length) == (Format.ONNX_GENAI, tiny.CONTEXT)
    assert found.shape is not None
    assert (found.shape.layers, found.shape.kv_heads) == (tiny.LAYERS, (tiny.KV_HEADS,) * tiny.LAYERS)
    # Every weight is there, as an initializer of F32.
    assert found.size_bytes > 213_632 * 4


def test_it_is_written_for_llama_cpp_too(tmp_path: Path) -> None:
    found = inspect(tiny_gguf.write(tmp_path / "tiny"))
    assert (found.format, found.architecture, found.context_length) == (Format.GGUF, "llama", tiny.CONTEXT)
    assert found.parameters == 213_632
