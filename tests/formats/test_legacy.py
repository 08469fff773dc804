"""GGML, GGMF and GGJT files: what they are, what they become, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.builders import write_legacy
from tests.legacy_files import MAGICS, TYPES, small_llama
from uml.core.errors import CorruptFile, MissingShard, UnsupportedFormat
from uml.core.model import Format, Role
from uml.formats import inspect
from uml.formats.legacy.model import foreseen, is_convertible

FIRST = ("ggml", "ggmf", "ggjt1")


@pytest.mark.parametrize(
    ("magic", "version", "named"),
    [
        (b"lmgg", None, "GGML (unversioned)"),
        (b"fmgg", 1, "GGMF v1"),
        (b"tjgg", 1, "GGJT v1"),
        (b"tjgg", 2, "GGJT v2"),
        (b"tjgg", 3, "GGJT v3"),
    ],
)
def test_each_generation_is_named(tmp_path: Path, magic: bytes, version: int | None, named: str) -> None:
    found = inspect(write_legacy(tmp_path / "model.bin", magic, version))
    assert (found.format, found.role, found.version) == (Format.GGML, Role.TEXT, named)
    assert found.quantization is not None and found.quantization.label == "Q4_0"
    assert found.shape is not None and found.shape.layers == 2 and found.shape.kv_heads == (4, 4)
    assert named in found.notes[0] and "at the first load" in found.notes[0]
    assert is_convertible(found)


@pytest.mark.parametrize("generation", MAGICS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_every_generation_is_measured(tmp_path: Path, generation: str, kind: str) -> None:
    path, place = tmp_path / "old.bin", tmp_path / "new.gguf"
    small_llama(generation, kind).write(path)
    if kind in ("Q4_2", "Q4_3") and generation not in FIRST:
        with pytest.raises(CorruptFile, match=r"type [45] at byte .* expected one of"):
            inspect(path)
        return
    found, new = inspect(path), foreseen(path, place)
    assert found.quantization is not None and found.quantization.label == kind
    assert found.size_bytes == path.stat().st_size
    assert (new.format, new.path, new.files) == (Format.GGUF, place, (place,))
    assert (new.architecture, new.parameters, new.shape) == ("llama", found.parameters, found.shape)
    becomes = "Q8_0" if kind in ("Q4_2", "Q4_3") else kind
    assert new.quantization is not None and new.quantization.label == becomes
    rounded = kind in ("Q4_0", "Q4_1", "Q8_0") and generation != "ggjt3"
    assert any("from 32 bits to 16" in note for note in found.notes) == rounded
    assert any("packed anew as Q8_0" in note for note in found.notes) == (becomes != kind)


def test_what_the_file_does_not_say_is_told_from_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "llama-2-70b.bin"
    small_llama(shared=2, inner=224).write(path)
    new = foreseen(path, path)
    assert new.shape is not None and (new.shape.kv_heads, new.shape.feed_forward) == ((2, 2), 224)
    # Only Llama 2 shared keys among heads.
    assert (new.context_length, new.metadata["llama.attention.layer_norm_rms_epsilon"]) == (4096, 1e-5)


@pytest.mark.parametrize(
    ("name", "generation", "context", "epsilon"),
    [
        ("guanaco-7b", "ggjt3", 2048, 5e-6),
        ("llama-2-7b-chat", "ggjt3", 4096, 1e-5),
        ("Llama2-7b", "ggjt3", 4096, 1e-5),
        ("llama-2-7b", "ggjt2", 2048, 1e-6),  # older than Llama 2, whatever it is called
        ("ggml-model-q4_0", "ggml", 2048, 1e-6),
    ],
)
def test_context_and_epsilon_follow_from_generation_and_name(
    tmp_path: Path, name: str, generation: str, context: int, epsilon: float
) -> None:
    path = tmp_path / f"{name}.bin"
    small_llama(generation).write(path)
    new = foreseen(path, path)
    assert (new.context_length, new.metadata["llama.attention.layer_norm_rms_epsilon"]) == (context, epsilon)
    assert new.name == name
    assert f"taken to be {context}" in inspect(path).notes[-1 if generation != "ggml" else -2]


def test_a_model_in_parts_is_one_model(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.bin", tmp_path / "ggml-model-q4_0.bin"
    model = small_llama("ggmf", "Q4_0")
    model.write(whole)
    model.write(parts, parts=2)
    second = tmp_path / "ggml-model-q4_0.bin.1"
    found = inspect(parts)
    assert found.files == (parts, second) and found.size_bytes == parts.stat().st_size + second.stat().st_size
    assert found.shape == inspect(whole).shape and "2 parts" in found.reason
    assert inspect(second) == found
    second.rename(tmp_path / "elsewhere.bin.1")
    with pytest.raises(MissingShard, match=r"ggml-model-q4_0\.bin\.1"):
        inspect(parts)
    with pytest.raises(MissingShard, match=r"missing: elsewhere\.bin$"):
        inspect(tmp_path / "elsewhere.bin.1")


def test_parts_of_two_models_are_not_joined(tmp_path: Path) -> None:
    small_llama("ggmf").write(tmp_path / "a.bin", parts=2)
    small_llama("ggmf", layers=1).write(tmp_path / "b.bin", parts=2)
    (tmp_path / "b.bin.1").rename(tmp_path / "a.bin.1")
    with pytest.raises(CorruptFile, match=r"a\.bin\.1: it is GGMF v1"):
        inspect(tmp_path / "a.bin")
    small_llama("ggmf", kinds={"output.weight": "F32"}).write(tmp_path / "b.bin", parts=2)
    (tmp_path / "b.bin.1").rename(tmp_path / "a.bin.1")
    with pytest.raises(CorruptFile, match=r"its share of output\.weight"):
        inspect(tmp_path / "a.bin")


def test_other_models_of_that_time_are_recognised_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "ggml-base.bin"
    path.write_bytes(b"lmgg" + struct.pack("<7I", 51865, 1500, 512, 8, 6, 448, 512) + bytes(64))
    found = inspect(path)
    assert found.role is Role.UNKNOWN and "whisper" in found.reason and not is_convertible(found)
    path.write_bytes(b"lmgg" + bytes(64))
    assert "not those of a Llama" in inspect(path).reason
    # GPT-J: n_vocab, n_ctx, n_embd, n_head, n_layer, n_rot, ftype, and the vocabulary begins with its size.
    start = b"lmgg" + struct.pack("<8I", 5000, 2048, 4096, 16, 28, 64, 1, 5000) + (struct.pack("<I", 1) + b"x") * 5000
    path.write_bytes(start + struct.pack("<3I", 1, 26, 0) + b"transformer.h.0.ln_1.weight" + bytes(64))
    found = inspect(path)
    assert "GPT-J" in found.reason and "only LLaMA models" in found.notes[0]
    # A Llama's numbers and vocabulary, and another family's tensors.
    other = small_llama()
    other = type(other)(other.numbers, other.tokens, {"gpt_neox.embed_in.weight": other.tensors["output.weight"]})
    other.write(path)
    assert "GPT-NeoX" in inspect(path).reason
    strange = type(other)(other.numbers, other.tokens, {"wte.weight": other.tensors["gpt_neox.embed_in.weight"]})
    strange.write(path)
    assert "wte.weight" in inspect(path).reason


def test_versions_that_were_not_llamas_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="GGJT version 9"):
        inspect(write_legacy(tmp_path / "model.bin", b"tjgg", 9))
    with pytest.raises(UnsupportedFormat, match=r"rwkv\.cpp"):
        inspect(write_legacy(tmp_path / "model.bin", b"fmgg", 101))


def test_every_place_where_a_file_may_end_is_noticed(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "model.bin")
    raw = path.read_bytes()
    whole = inspect(path)
    for cut in (*range(4, 500, 7), *range(500, len(raw), 997), len(raw) - 1):
        path.write_bytes(raw[:cut])
        with pytest.raises(CorruptFile):
            inspect(path)
    path.write_bytes(raw)
    assert inspect(path) == whole


def _with(change: dict[int, int], raw: bytes) -> bytes:
    out = bytearray(raw)
    for at, value in change.items():
        struct.pack_into("<I", out, at, value)
    return bytes(out)


def test_numbers_of_strangers_are_bounded(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "model.bin")
    raw = path.read_bytes()
    head = raw.index(b"tok_embeddings") - 20
    cases = {
        "room for the 200000 tokens": {8: 200_000},
        "token 0 has 4294967295 bytes": {36: 0xFFFFFFFF},
        "9 dimensions": {head: 9},
        "a name of 70000 bytes": {head + 4: 70_000},
        "type 77 at byte .* expected one of 0": {head + 8: 77},
        "rows of 63": {head + 12: 63},
    }
    for said, change in cases.items():
        path.write_bytes(_with(change, raw))
        with pytest.raises(CorruptFile, match=said):
            inspect(path)
    path.write_bytes(b"tjgg" + struct.pack("<I", 3) + bytes(10))
    with pytest.raises(CorruptFile, match="seven numbers"):
        inspect(path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"layers.1.ffn_norm.weight": None}, "ends without 1 of a Llama's tensors"),
        ({"layers.0.attention.wk.weight": None}, "no tensor layers.0.attention.wk.weight"),
        ({"layers.0.extra.weight": "norm.weight"}, r"it has the tensor 'layers\.0\.extra\.weight'"),
        ({"layers.1.attention.wq.weight": "output.weight"}, r"shape \(64, 300\), expected \(64, 64\)"),
        ({"layers.0.attention.wk.weight": "output.weight"}, "rows for a number of heads"),
        ({"layers.0.feed_forward.w1.weight": "norm.weight"}, "a matrix of a Llama"),
    ],
)
def test_tensors_that_no_llama_has_are_refused(tmp_path: Path, changed: dict[str, str | None], said: str) -> None:
    model, path = small_llama(), tmp_path / "model.bin"
    tensors = dict(model.tensors)
    for name, other in changed.items():
        if other is None:
            del tensors[name]
        else:
            tensors[name] = tensors[other]
    type(model)(model.numbers, model.tokens, tensors).write(path)
    with pytest.raises(CorruptFile, match=said):
        inspect(path)


def test_tensors_that_follow_from_the_numbers_are_left_out(tmp_path: Path) -> None:
    model, path = small_llama(), tmp_path / "model.bin"
    tensors = {**model.tensors, "layers.0.attention.inner_attention.rope.freqs": model.tensors["norm.weight"]}
    type(model)(model.numbers, model.tokens, tensors).write(path)
    assert inspect(path).shape == foreseen(path, path).shape
    assert inspect(path).parameters == sum(weights.size for weights in model.tensors.values())


def test_an_old_adapter_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "ggml-adapter-model.bin"
    path.write_bytes(b"algg" + struct.pack("<3I", 1, 8, 16))
    found = inspect(path)
    assert (found.role, found.version) == (Role.ADAPTER, "GGLA v1")
    path.write_bytes(b"algg" + struct.pack("<3I", 2, 8, 16))
    with pytest.raises(UnsupportedFormat, match="GGLA version 2"):
        inspect(path)
