"""Headers made to hurt: refused at once and in little memory, however much they claim."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import llama_config, write_hf_folder
from tests.formats.test_fuzz import inspect_within_limits
from uml.formats import bounded_json, inspect


def gguf(path: Path, metadata: bytes, count: int = 1, size: int = 1 << 40) -> None:
    """A header in a sparse file that is large enough for whatever the header claims."""
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, count) + metadata)
        file.truncate(size)


def pair(kind: int, raw: bytes) -> bytes:
    return struct.pack("<Q", 1) + b"a" + struct.pack("<I", kind) + raw


def empty_strings(path: Path) -> None:
    gguf(path, pair(9, struct.pack("<IQ", 8, 1 << 36)))


def many_empty_strings(path: Path) -> None:
    gguf(path, pair(9, struct.pack("<IQ", 8, 2_000_000)), size=1 << 25)


def strings_far_apart(path: Path) -> None:
    """Each string is 2 MiB long, so that each needs a read of its own."""
    gguf(path, pair(9, struct.pack("<IQ", 8, 100_000)))
    with path.open("r+b") as file:
        at = 24 + 13 + 12
        for _ in range(2000):
            file.seek(at)
            file.write(struct.pack("<Q", 2 << 20))
            at += 8 + (2 << 20)


def endless_text(path: Path) -> None:
    gguf(path, pair(8, struct.pack("<Q", 1 << 39)))


def endless_numbers(path: Path) -> None:
    gguf(path, pair(9, struct.pack("<IQ", 10, 1 << 36)))


def many_tensors(path: Path) -> None:
    infos = b"".join(
        struct.pack("<Q", 20) + b"%020d" % number + struct.pack("<I4QIQ", 4, 1, 1, 1, 1 << 24, 24, number << 24)
        for number in range(65_536)
    )
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 65_536, 0) + infos)
        file.truncate((1 << 40) + (1 << 30))


def many_keys(path: Path) -> None:
    keys = b"".join(
        struct.pack("<Q", 120) + b"%0120d" % number + struct.pack("<IQ", 8, 100) + b"x" * 100
        for number in range(40_000)
    )
    gguf(path, keys, 65_000)


def wide_text(path: Path) -> None:
    """Text of which one character makes Python keep four bytes for each."""
    text = "\U0001f600".encode() + b"a" * ((1 << 20) - 8)
    raw = b"".join(
        struct.pack("<Q", 4) + b"%04d" % number + struct.pack("<IQ", 8, len(text)) + text for number in range(20)
    )
    gguf(path, raw, 20)


def safetensors(path: Path, header: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def many_small_tensors(path: Path) -> None:
    entry = {"dtype": "F32", "shape": [0, 1, 2], "data_offsets": [0, 0]}
    safetensors(path, json.dumps({f"model.layers.{number}.weight": entry for number in range(100_000)}).encode())


JSON = {
    "lists": b'{"a":[' + b"[]," * 5_000_000 + b"[]]}",
    "objects": b'{"a":[' + b"{}," * 5_000_000 + b"{}]}",
    "numbers": b'{"a":[' + b"1000000," * 2_000_000 + b"0]}",
    "texts": b'{"a":[' + b'"xyz",' * 2_500_000 + b"0]}",
    "pairs": b"{" + b",".join(b'"%d":1' % number for number in range(1_400_000)) + b"}",
    "deep lists": b"[" * 8_000_000,
    "deep objects": b'{"a":' * 3_000_000,
    "digits": b'{"a":' + b"1" * 16_000_000 + b"}",
    "text": b'{"a":"' + b"x" * 16_000_000 + b'"}',
    "wide text": b'{"a":"\xf0\x9f\x98\x80' + b"x" * 9_000_000 + b'"}',
    "escapes": b'{"a":"' + b"\\n" * 8_000_000 + b'"}',
    "spaces": b" " * 16_000_000,
    "offsets": b'{"a":[' + b'"data_offsets",' * 1_000_000 + b"0]}",
}
SLOW = [
    # Their size makes them slow under the memory tracer; each takes half a second without.
    pytest.param(write, marks=pytest.mark.slow)
    for write in (many_empty_strings, many_tensors, many_keys)
]
GGUF = [empty_strings, strings_far_apart, endless_text, endless_numbers, wide_text, *SLOW]


@pytest.mark.parametrize("write", GGUF, ids=lambda write: str(write.__name__))
def test_gguf_headers(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "model.gguf"
    write(path)
    inspect_within_limits(path)


@pytest.mark.parametrize("name", JSON)
def test_safetensors_headers(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    safetensors(path, JSON[name])
    inspect_within_limits(path)


# Before the repeated part, the repeated part, after it: as many as are just allowed.
REPEATED = {
    "lists": (b'{"a":[', b"[],", b"0]}"),
    "objects": (b'{"a":[', b"{},", b"0]}"),
    "numbers": (b'{"a":[', b"123456789,", b"0]}"),
    "floats": (b'{"a":[', b"1.5,", b"0]}"),
    "texts": (b'{"a":[', b'"xyz",', b"0]}"),
    "pairs": (b"{", b'"%08d":1,', b'"b":1}'),
    "nested": (b"{", b'"%08d":{"a":1000},', b'"b":1}'),
    "tensors": (b"{", b'"%08d":{"dtype":"F32","shape":[0,1,2],"data_offsets":[0,0]},', b'"b":{}}'),
    "wide": ('{"\U0001f600":['.encode(), b'"xyz",', b"0]}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPEATED)
def test_what_is_just_allowed_takes_no_more_than_was_reckoned(tmp_path: Path, name: str) -> None:
    before, part, after = REPEATED[name]
    numbered = b"%08d" in part
    size = len(before + part % 0 + after) if numbered else len(before + part + after)
    unit = bounded_json.cost(before + (part % 0 if numbered else part) + after) - bounded_json.cost(before + after)
    # A little less than allowed: the parts at the ends count too.
    count = int(0.98 * min(bounded_json.MAX_COST / unit, bounded_json.MAX_JSON / size))
    raw = before + b"".join(part % number if numbered else part for number in range(count)) + after
    assert bounded_json.cost(raw) <= bounded_json.MAX_COST
    path = tmp_path / "model.safetensors"
    safetensors(path, raw)
    inspect_within_limits(path)


def test_a_safetensors_header_of_many_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    many_small_tensors(path)
    inspect_within_limits(path)


def test_a_safetensors_header_of_100_mb(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 99_000_000) + b'{"')
        file.truncate(1 << 32)
    inspect_within_limits(path)


@pytest.mark.parametrize("name", JSON)
def test_configurations(tmp_path: Path, name: str) -> None:
    folder = write_hf_folder(tmp_path)
    (folder / "config.json").write_bytes(JSON[name])
    inspect_within_limits(folder)


def test_a_configuration_of_gigabytes(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path)
    with (folder / "config.json").open("wb") as file:
        file.truncate(1 << 32)
    inspect_within_limits(folder)


def test_an_index_of_gigabytes(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path, shards=2)
    with (folder / "model.safetensors.index.json").open("wb") as file:
        file.truncate(1 << 32)
    inspect_within_limits(folder)


def test_a_large_honest_index_is_read(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path, shards=2)
    index = folder / "model.safetensors.index.json"
    names = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    weight_map = {f"model.layers.{number}.mlp.experts.gate_proj.weight": names[number % 2] for number in range(100_000)}
    index.write_text(json.dumps({"weight_map": weight_map}))
    found = inspect_within_limits(folder)
    assert found is not None and len(found.files) == 5


def test_a_configuration_with_everything_in_it(tmp_path: Path) -> None:
    many = {f"key{number}": {"inner": number, "text": "x" * 5000, "big": 2**70} for number in range(3000)}
    found = inspect(write_hf_folder(tmp_path, llama_config(**many)))
    assert len(found.metadata) == 2000
    assert all(value != 2**70 and value != "x" * 5000 for value in found.metadata.values())
