"""Ids are made of names, are safe in a URL, and never name two things."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml.registry.entries import Found
from uml.registry.names import base_id, is_alias, new_id, slug, unquantized


@pytest.mark.parametrize(
    ("path", "id"),
    [
        ("/m/Qwen2.5-0.5B-Instruct-Q8_0.gguf", "qwen2.5-0.5b-instruct-q8_0"),
        ("/m/qwen2.5-7b-q4_k_m-00001-of-00002.gguf", "qwen2.5-7b-q4_k_m"),
        ("/m/Llama-3.2", "llama-3.2"),
        ("/m/llama/model.safetensors", "llama"),
        ("/m/llama/ggml-model.bin", "llama"),
        ("/m/Größe & Größe (1).GGUF", "groe-groe-1"),
        ("/m/模型.gguf", "model"),
        ("/m/...gguf", "model"),
        ("/m/-_x_-.gguf", "x"),
        ("/m/" + "x" * 200 + ".gguf", "x" * 96),
    ],
)
def test_an_id_is_the_name_without_suffix_and_part_number(path: str, id: str) -> None:
    assert base_id(Found.at(Path(path))) == id


def test_a_title_goes_before_the_name_of_the_file() -> None:
    assert base_id(Found("k", Path("/blobs/sha256-0"), "ollama", title="llama3.2-1b")) == "llama3.2-1b"
    assert base_id(Found("k", Path("/blobs/sha256-0"), "ollama", title="模型")) == "model"


@given(st.text(max_size=300))
def test_a_slug_is_safe_in_a_url_or_empty(text: str) -> None:
    assert re.fullmatch(r"([a-z0-9][a-z0-9._-]{0,95})?", slug(text))


def test_a_taken_id_gets_as_many_letters_of_a_hash_as_it_takes() -> None:
    path = Path("/a/x.gguf")
    taken = {"x"}
    second = new_id("x", path, lambda name: name not in taken)
    assert re.fullmatch(r"x-[0-9a-f]{4}", second)
    assert re.fullmatch(r"x-[0-9a-f]{5}", new_id("x", path, lambda name: name not in {"x", second}))
    assert new_id("x", path, lambda name: True) == "x"


@pytest.mark.parametrize(
    ("name", "shorter"),
    [
        ("qwen2.5-0.5b-instruct-q8_0", "qwen2.5-0.5b-instruct"),
        ("llama-3.2-1b.q4_k_m", "llama-3.2-1b"),
        ("x-iq2_xxs", "x"),
        ("x-ud-q4_k_xl", "x"),
        ("x-gptq-int4", "x"),
        ("x-awq", "x"),
        ("x-exl3-4.0bpw", "x"),
        ("x-8-bit", "x"),
        ("x-bf16", "x"),
        ("x-mxfp4_moe", "x"),
        ("x-7b", "x-7b"),
        ("q8_0", "q8_0"),
        ("llama-3.2-q", "llama-3.2-q"),
    ],
)
def test_a_name_without_its_quantization(name: str, shorter: str) -> None:
    assert unquantized(name) == shorter


def test_an_alias_is_printable_and_not_too_long() -> None:
    assert is_alias("Qwen/Qwen2.5-0.5B")
    assert is_alias("mein Modell")
    assert not any(is_alias(name) for name in ("", " x", "x\n", "x\0y", "x" * 201))
