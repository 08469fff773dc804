"""What is stored comes back as it was, or not at all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from uml.core.model import Format, ModelInfo, Quantization, Role, Shape
from uml.registry import packaged_model
from uml.registry.codec import CodecError, from_json, to_json
from uml.registry.entries import Found

FULL = ModelInfo(
    path=Path("/models/a b.gguf"),
    format=Format.GGUF,
    role=Role.TEXT,
    confidence=1.0,
    reason="magic",
    size_bytes=1 << 40,
    files=(Path("/models/a b.gguf"), Path("/models/ü.gguf")),
    version="3",
    name="A\x00b\udc80",
    architecture="llama",
    quantization=Quantization("gguf", "Q8_0", 8.5),
    parameters=10**12,
    context_length=4096,
    shape=Shape(2, 64, 128, 4, (2, 0), 16, 16, 32, sliding_window=4, experts=8, experts_used=2),
    chat_template="{{ x }}",
    weight_bytes={"Q8_0": 5, "F32": 6},
    metadata={"text": "x", "int": 7, "float": 7.0, "true": True},
    notes=("one", "two"),
)
BARE = ModelInfo(Path("x"), Format.UNKNOWN, Role.UNKNOWN, 0.5, "", 0)


@pytest.mark.parametrize("info", [FULL, BARE, replace(FULL, quantization=Quantization("none", "F16"))])
def test_a_model_comes_back_as_it_was(info: ModelInfo) -> None:
    back = from_json(ModelInfo, to_json(info))
    assert back == info
    assert {key: type(value) for key, value in back.metadata.items()} == {
        key: type(value) for key, value in info.metadata.items()
    }


def test_the_demo_model_comes_back_as_it_was() -> None:
    from uml.formats import inspect

    info = inspect(packaged_model())
    assert from_json(ModelInfo, to_json(info)) == info


def test_what_was_found_comes_back_as_it_was() -> None:
    found = Found("k", Path("/p"), "ollama", "t", ("a", "b:c"), "o/r", {"x": 1}, ("n",))
    assert from_json(Found, to_json(found)) == found


def test_a_whole_number_will_do_for_a_float_and_a_missing_field_for_its_default() -> None:
    slim = json.dumps({"path": "x", "format": "gguf", "role": "text", "confidence": 1, "reason": "", "size_bytes": 0})
    back = from_json(ModelInfo, slim)
    assert type(back.confidence) is float
    assert back.files == ()
    bits = to_json(replace(FULL, quantization=Quantization("x", "y", 4)))
    assert back != from_json(ModelInfo, bits)


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"size_bytes": "7"},
        {"size_bytes": True},
        {"confidence": "high"},
        {"format": "floppy"},
        {"format": 3},
        {"path": None},
        {"files": "x"},
        {"files": [1]},
        {"weight_bytes": [1]},
        {"weight_bytes": {"x": 1.5}},
        {"metadata": {"x": [1]}},
        {"metadata": {"x": None}},
        {"shape": {"layers": 1}},
        {"shape": 4},
        {"notes": {"x": 1}},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        from_json(ModelInfo, json.dumps({**json.loads(to_json(FULL)), **change}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_text_that_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(CodecError):
        from_json(ModelInfo, text)
