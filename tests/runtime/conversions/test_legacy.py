"""GGML, GGMF and GGJT files made into GGUF: the weights that they mean, whole or not at all. The child is real."""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from tests.legacy_files import K_SIZES, MAGICS, TYPES, OldModel, encoded, small_llama
from uml.core.errors import BadRequest, Cancelled, ConversionFailed, CorruptFile, NoRoom, UnsupportedFormat
from uml.formats import inspect
from uml.formats.legacy.model import foreseen
from uml.formats.legacy.to_gguf import _INNER, _OUTER
from uml.runtime.conversions import workshop
from uml.runtime.conversions.legacy import Order, convert
from uml.runtime.conversions.workshop import Making

FIRST = ("ggml", "ggmf", "ggjt1")
LATER = [kind for kind in TYPES if kind not in ("Q4_2", "Q4_3")]
CASES = [(generation, kind) for generation in MAGICS for kind in (TYPES if generation in FIRST else LATER)]
WORST = {"F32": 0.0, "F16": 0.0, "Q5_0": 0.0, "Q5_1": 0.0, "Q4_0": 5e-4, "Q4_1": 1e-3, "Q8_0": 5e-4}
"""Of the largest weight: what a scale in 16 bits may change. Q4_2 and Q4_3 become Q8_0."""


def silent(making: Making) -> None:
    pass


def made(source: Path, place: Path) -> GGUFReader:
    convert(Order("it", inspect(source), place), silent)
    assert sorted(path.name for path in place.parent.iterdir() if path.name.startswith(".")) == []
    return GGUFReader(place)


def old_name(name: str) -> str:
    outer = {new: old for old, new in _OUTER.items()}
    if name in outer:
        return outer[name]
    _, layer, rest = name.split(".", 2)
    return f"layers.{layer}.{ {new: old for old, new in _INNER.items()}[rest] }"


def texts(reader: GGUFReader, key: str) -> list[bytes]:
    field = reader.fields[key]
    return [bytes(field.parts[index]) for index in field.data]


def values(reader: GGUFReader, key: str) -> list[Any]:
    field = reader.fields[key]
    return [field.parts[index][0].item() for index in field.data]


@pytest.mark.parametrize(("generation", "kind"), CASES)
def test_the_weights_are_those_that_the_old_blocks_mean(tmp_path: Path, generation: str, kind: str) -> None:
    path = tmp_path / "old.bin"
    parts = 2 if generation == "ggmf" else 1
    meant = small_llama(generation, kind).write(path, parts)
    reader = made(path, tmp_path / "new.gguf")
    assert len(reader.tensors) == len(meant)
    for tensor in reader.tensors:
        wanted = meant[old_name(tensor.name)]
        found = dequantize(tensor.data, tensor.tensor_type).reshape(wanted.shape)
        least = 0.0 if generation == "ggjt3" else WORST.get(kind, 5e-3)
        assert np.abs(found - wanted).max() <= least * np.abs(wanted).max(), tensor.name
    expected = foreseen(path, tmp_path / "new.gguf")
    told = inspect(tmp_path / "new.gguf")
    assert (told.shape, told.weight_bytes, told.quantization) == (
        expected.shape,
        expected.weight_bytes,
        expected.quantization,
    )


@pytest.mark.parametrize("kind", K_SIZES)
def test_k_quants_go_through_as_they_are(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "old.bin"
    model = small_llama("ggjt3", kind, width=256, inner=512, layers=1)
    model.write(path)
    for tensor in made(path, tmp_path / "new.gguf").tensors:
        weights = model.tensors[old_name(tensor.name)]
        if weights.ndim == 2:
            assert tensor.tensor_type.name == kind
            assert tensor.data.tobytes() == encoded(kind, "ggjt3", weights)[0]


@pytest.mark.parametrize("generation", ["ggml", "ggjt3", "no scores"])
def test_the_vocabulary_is_sentencepieces(tmp_path: Path, generation: str) -> None:
    path = tmp_path / "old.bin"
    small = small_llama("ggml" if generation == "ggml" else "ggjt3")
    pieces = {259: b"  ", 260: b" t", 261: "é".encode(), 262: b"a b", 263: b""}
    tokens = [(pieces.get(number, text), score) for number, (text, score) in enumerate(small.tokens)]
    if generation == "no scores":  # as llama.cpp's quantizer wrote for a source without
        tokens = [(text, 0.0) for text, _ in tokens]
    OldModel(small.numbers, tokens, small.tensors, small.generation).write(path)
    reader = made(path, tmp_path / "new.gguf")
    found = texts(reader, "tokenizer.ggml.tokens")
    assert found[:5] == [b"<unk>", b"<s>", b"</s>", b"<0x00>", b"<0x01>"]
    assert found[258:264] == [b"<0xFF>", "▁▁".encode(), "▁t".encode(), "é".encode(), "a▁b".encode(), b""]
    assert values(reader, "tokenizer.ggml.token_type")[:4] == [2, 3, 3, 6]
    assert values(reader, "tokenizer.ggml.token_type")[258:264] == [6, 1, 1, 1, 1, 3]
    scores = values(reader, "tokenizer.ggml.scores")
    # Pieces of spaces alone come last in LLaMA's vocabulary, where a file does not say otherwise.
    assert scores[:3] == [0, 0, 0] and scores[260:263] == [-1, -2, -3]
    assert scores[259] == (0 if generation == "ggjt3" else -1e9)


def test_progress_never_falls_and_ends_at_all_of_it(tmp_path: Path) -> None:
    path, told = tmp_path / "old.bin", list[Making]()
    small_llama("ggjt1", "Q4_0", layers=4).write(path)
    convert(Order("it", inspect(path), tmp_path / "new.gguf"), told.append)
    percents = [making.percent for making in told]
    assert percents == sorted(percents) and percents[-1] == 100
    assert any("layer 2" in making.text for making in told)


def nothing_is_left(folder: Path, *but: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(but)


@pytest.mark.parametrize(("value", "said"), [(1e9, "is too large for 16 bits"), (float("nan"), "is no number")])
def test_a_scale_that_is_no_scale_is_refused(tmp_path: Path, value: float, said: str) -> None:
    path = tmp_path / "old.bin"
    small_llama("ggjt2", "Q4_0").write(path)
    raw = bytearray(path.read_bytes())
    where = raw.index(b"layers.1.feed_forward.w3.weight") + 31
    struct.pack_into("<f", raw, where + -where % 32 + 40, value)
    path.write_bytes(raw)
    with pytest.raises(ConversionFailed, match=rf"blk\.1\.ffn_up\.weight: a scale {said}"):
        convert(Order("it", inspect(path), tmp_path / "new.gguf"), silent)
    nothing_is_left(tmp_path, "old.bin")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.bin"
    small_llama("ggjt1", "Q4_2").write(path)
    raw = bytearray(path.read_bytes())
    where = raw.index(b"layers.1.feed_forward.w3.weight") + 31
    raw[where + -where % 32 : where + -where % 32 + 2] = b"\xff\x7f"
    path.write_bytes(raw)
    with pytest.raises(ConversionFailed, match=r"blk\.1\.ffn_up\.weight: there are weights that are no numbers"):
        convert(Order("it", inspect(path), tmp_path / "new.gguf"), silent)
    nothing_is_left(tmp_path, "old.bin")


def test_one_that_is_not_wanted_any_more_ends_at_once(tmp_path: Path) -> None:
    path, stop = tmp_path / "old.bin", threading.Event()
    small_llama("ggjt1", "Q4_0").write(path)
    with pytest.raises(Cancelled):
        convert(Order("it", inspect(path), tmp_path / "new.gguf"), lambda making: stop.set(), stop.is_set)
    nothing_is_left(tmp_path, "old.bin")


def test_what_is_there_stays_and_a_full_disk_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, place = tmp_path / "old.bin", tmp_path / "new.gguf"
    small_llama().write(path)
    place.write_text("mine")
    with pytest.raises(BadRequest, match="is there already"):
        convert(Order("it", inspect(path), place), silent)
    assert place.read_text() == "mine"
    place.unlink()
    monkeypatch.setattr(workshop, "SPARE_BYTES", 1 << 62)
    with pytest.raises(NoRoom, match="it as GGUF needs"):
        convert(Order("it", inspect(path), place), silent)
    nothing_is_left(tmp_path, "old.bin")


def test_what_changed_since_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.bin"
    small_llama().write(path)
    info, raw = inspect(path), path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(CorruptFile, match="download it again"):
        convert(Order("it", info, tmp_path / "new.gguf"), silent)
    path.write_bytes(raw.replace(b"tok_embeddings.weight", b"emb_toknodings.weight"))
    with pytest.raises(UnsupportedFormat, match="not what it was"):
        convert(Order("it", info, tmp_path / "new.gguf"), silent)
    path.write_bytes(b"lmgg" + bytes(64))
    with pytest.raises(UnsupportedFormat, match="not those of a Llama; of the formats before GGUF, LLaMA"):
        convert(Order("it", inspect(path), tmp_path / "new.gguf"), silent)
    nothing_is_left(tmp_path, "old.bin")
