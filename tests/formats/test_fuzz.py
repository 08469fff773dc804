"""Files from strangers: whatever is done to a valid file, an answer or an UmlError, soon, in little memory."""

from __future__ import annotations

import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import builders
from uml.core.errors import UmlError
from uml.core.model import ModelInfo
from uml.formats import candidates, inspect

MEMORY_LIMIT = 64 << 20
TIME_LIMIT_S = 1.0


def _gguf(folder: Path, order: builders.Order) -> Path:
    metadata = builders.llama_metadata(layers=1, embedding=32, tokens=6, kv_heads=[2])
    tensors = builders.llama_tensors(layers=1, embedding=32, feed_forward=32, tokens=6)
    return builders.write_gguf(folder / "model.gguf", metadata, tensors, order=order)


def _hf_pytorch(folder: Path) -> Path:
    builders.write_json(folder / "config.json", builders.llama_config())
    return builders.write_pytorch(folder / "pytorch_model.bin")


def _gptq(folder: Path) -> Path:
    said = {"quant_method": "gptq", "bits": 4, "group_size": 128, "config_groups": {"g": {"weights": {"num_bits": 4}}}}
    config = builders.llama_config(quantization_config=said, text_config={"num_hidden_layers": 2})
    return builders.write_hf_folder(folder, config) / "config.json"


# Name -> a function that fills an empty folder and returns the file to be damaged.
SEEDS: dict[str, Callable[[Path], Path]] = {
    "gguf": lambda folder: _gguf(folder, "<"),
    "gguf-big-endian": lambda folder: _gguf(folder, ">"),
    "gguf-split": lambda folder: builders.write_split_gguf(folder, parts=2)[1],
    "ggjt": lambda folder: builders.write_legacy(folder / "model.bin"),
    "ggml": lambda folder: builders.write_legacy(folder / "model.bin", b"lmgg", None),
    "safetensors": lambda folder: builders.write_hf_folder(folder) / "model.safetensors",
    "hf-config": _gptq,
    "hf-index": lambda folder: builders.write_hf_folder(folder, shards=2) / "model.safetensors.index.json",
    "hf-tokenizer": lambda folder: builders.write_hf_folder(folder) / "tokenizer_config.json",
    "pytorch": _hf_pytorch,
    "pytorch-legacy": lambda folder: builders.write_legacy_pytorch(folder / "model.pt"),
    "adapter": lambda folder: builders.write_adapter_folder(folder) / "adapter_config.json",
    "onnx": lambda folder: builders.write_onnx(folder / "model.onnx"),
    "onnx-genai": lambda folder: builders.write_genai_folder(folder) / "genai_config.json",
    "tensorrt": lambda folder: builders.write_tensorrt_folder(folder) / "config.json",
}
HEADER = 2048
"""Bytes in which damage is done; behind them are weights."""
HUGE = (2**62, 2**63 - 1, 2**64 - 1, 2**63, 2**32, 2**40, 10**9, 2**31 - 1, 0)

offsets = st.integers(0, HEADER)
edits = st.one_of(
    st.tuples(st.just("byte"), offsets, st.integers(0, 255)),
    st.tuples(st.just("cut"), offsets, st.just(0)),
    st.tuples(st.just("u64"), offsets, st.sampled_from(HUGE)),
    st.tuples(st.just("u32"), offsets, st.sampled_from([value & 0xFFFFFFFF for value in HUGE])),
    st.tuples(st.just("insert"), offsets, st.integers(0, 2**64 - 1)),
    st.tuples(st.just("number"), offsets, st.sampled_from(HUGE)),
    st.tuples(st.just("remove"), offsets, st.integers(1, 64)),
    st.tuples(st.just("repeat"), offsets, st.integers(1, 200)),
)


def damage(raw: bytes, edit: tuple[str, int, int]) -> bytes:
    """One change at an offset."""
    kind, at, value = edit
    at = min(at, len(raw))
    before, after = raw[:at], raw[at:]
    match kind:
        case "byte":
            return before + bytes([value]) + after[1:]
        case "cut":
            return before
        case "u64":
            return before + struct.pack("<Q", value) + after[8:]
        case "u32":
            return before + struct.pack("<I", value) + after[4:]
        case "insert":
            return before + struct.pack("<Q", value) + after
        case "number":
            return before + str(value).encode() + after
        case "remove":
            return before + after[value:]
        case _:
            return before + after[:16] * value + after


def inspect_within_limits(path: Path) -> ModelInfo | None:
    """What it is, or None for an UmlError; anything else, too long or too much memory fails the test."""
    # Tracing makes it several times slower: time and memory are measured apart.
    start = time.process_time()
    found = inspect_or_none(path)
    seconds = time.process_time() - start
    assert seconds < TIME_LIMIT_S, f"{seconds:.2f} s"
    tracemalloc.start()
    try:
        assert inspect_or_none(path) == found
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_LIMIT, f"{peak >> 20} MiB"
    return found


def inspect_or_none(path: Path) -> ModelInfo | None:
    try:
        return inspect(path)
    except UmlError as error:
        assert error.message and str(error) == error.message
        return None


def fuzz(seed: str, folder: Path, examples: int, derandomize: bool) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = SEEDS[seed](folder)
    original = path.read_bytes()
    # The seed itself is a model, else there is nothing to break.
    assert inspect(path if path.suffix != ".json" else folder).confidence > 0.5

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(edits, min_size=1, max_size=3))
    def survives(changes: list[tuple[str, int, int]]) -> None:
        raw = original
        for change in changes:
            raw = damage(raw, change)
        path.write_bytes(raw)
        inspect_within_limits(path)
        if path.suffix != ".gguf":
            inspect_within_limits(folder)

    survives()
    assert list(candidates(folder)) is not None


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_files_give_an_answer_or_an_error(seed: str, tmp_path: Path) -> None:
    fuzz(seed, tmp_path / "model", examples=70, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_files_at_length(seed: str, tmp_path: Path) -> None:
    fuzz(seed, tmp_path / "model", examples=3000, derandomize=False)


@settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    magic=st.sampled_from([b"", b"GGUF\3\0\0\0", b"lmgg", b"tjgg\3\0\0\0", b"\x08\x0a", b"PK\3\4"]), rest=st.binary()
)
def test_noise_gives_an_answer_or_an_error(tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.bin"
    path.write_bytes(magic + rest)
    inspect_within_limits(path)
