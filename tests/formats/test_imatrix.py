"""Importance matrices, in the two formats that llama.cpp has written."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.builders import write_tiny_gguf
from uml.core.errors import BadFile, CorruptFile
from uml.formats.gguf.imatrix import read_matrix


def write(path: Path, sums: dict[str, np.ndarray], counts: dict[str, np.ndarray], kind: str = "imatrix") -> Path:
    writer = gguf.GGUFWriter(path, arch="")
    writer.add_type(kind)
    writer.add_uint32("imatrix.chunk_count", 7)
    for name, values in sums.items():
        writer.add_tensor(f"{name}.in_sum2", values.astype(np.float32))
    for name, values in counts.items():
        writer.add_tensor(f"{name}.counts", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def legacy(path: Path, *entries: tuple[bytes, int, list[float]], chunks: int | None = 3) -> Path:
    data = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        data += struct.pack(f"<i{len(name)}sii{len(values)}f", len(name), name, calls, len(values), *values)
    path.write_bytes(data + (b"" if chunks is None else struct.pack("<ii", chunks, 0)))
    return path


def test_sums_are_divided_by_the_count_of_their_expert(tmp_path: Path) -> None:
    sums = {"blk.0.ffn_up_exps.weight": np.arange(12).reshape(3, 4), "output.weight": np.array([[3, 6]])}
    counts = {"blk.0.ffn_up_exps.weight": np.array([[2], [0], [4]]), "output.weight": np.array([[3]])}
    found = read_matrix(write(tmp_path / "m.gguf", sums, counts))
    assert found.chunks == 7
    assert list(found.values("blk.0.ffn_up_exps.weight")) == [0, 0.5, 1, 1.5, 1, 1, 1, 1, 2, 2.25, 2.5, 2.75]
    assert list(found.values("output.weight")) == [1, 2]


def test_the_older_format(tmp_path: Path) -> None:
    path = legacy(tmp_path / "m.dat", (b"blk.0.attn_q.weight", 2, [1, 2, 3]), (b"output.weight", 0, [5]))
    found = read_matrix(path)
    assert (list(found.values("blk.0.attn_q.weight")), list(found.values("output.weight"))) == ([0.5, 1, 1.5], [5])
    assert found.chunks == 3
    assert read_matrix(legacy(tmp_path / "n.dat", (b"a", 1, [1]), chunks=None)).chunks == 0


def test_what_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Once upon a time there was a king.")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("text", "empty", "nothing"):
        with pytest.raises(BadFile, match=name):
            read_matrix(tmp_path / name)
    with pytest.raises(BadFile, match="it is GGUF with the type model"):
        read_matrix(write_tiny_gguf(tmp_path / "model.gguf"))
    with pytest.raises(BadFile, match="it has no figures of any tensor"):
        read_matrix(write(tmp_path / "none.gguf", {}, {"a": np.ones((1, 1))}))
    with pytest.raises(BadFile, match="neither GGUF nor an importance matrix"):
        read_matrix(legacy(tmp_path / "unnamed.dat", (b"", 1, [1])))


def test_what_is_broken_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match="the counts of a do not fit"):
        read_matrix(write(tmp_path / "uncounted.gguf", {"a": np.ones((1, 4))}, {}))
    with pytest.raises(CorruptFile, match="has 0 figures"):
        read_matrix(legacy(tmp_path / "short.dat", (b"a", 1, [])))
    whole = legacy(tmp_path / "cut.dat", (b"a", 1, [1, 2, 3]), chunks=None)
    whole.write_bytes(whole.read_bytes()[:-4])
    with pytest.raises(CorruptFile, match="figures of a"):
        read_matrix(whole)
    with pytest.raises(CorruptFile, match="are no numbers"):
        read_matrix(legacy(tmp_path / "nan.dat", (b"a", 1, [float("nan")]))).values("a")
    changed = read_matrix(legacy(tmp_path / "gone.dat", (b"a", 1, [1, 2, 3])))
    changed.path.write_bytes(b"")
    with pytest.raises(CorruptFile, match="end too soon"):
        changed.values("a")
    typed = write(tmp_path / "typed.gguf", {}, {"a": np.ones((1, 1))})
    half = gguf.GGUFWriter(typed, arch="")
    half.add_tensor("a.in_sum2", np.ones((1, 4), np.float16))
    half.add_tensor("a.counts", np.ones((1, 1), np.float32))
    half.write_header_to_file()
    half.write_kv_data_to_file()
    half.write_tensors_to_file()
    half.close()
    with pytest.raises(CorruptFile, match="of another type"):
        read_matrix(typed)
