"""Our tables and our strictness against the library that defines them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest
import xllamacpp

from tests.formats.test_gguf import header_with, tensor
from uml.core.errors import BadFile
from uml.formats import inspect
from uml.formats.gguf.tables import FILE_TYPES, REMOVED_TENSOR_TYPES, TENSOR_TYPES


@pytest.fixture(scope="module")
def ggml() -> Iterator[ctypes.CDLL]:
    library = next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"), None)
    if library is None:
        pytest.skip("the engine is not a shared object here")
    loaded = ctypes.CDLL(str(library))
    if not hasattr(loaded, "ggml_type_name") or not hasattr(loaded, "llama_ftype_name"):
        pytest.skip("this build does not export ggml's tables")
    loaded.ggml_type_name.restype = loaded.llama_ftype_name.restype = ctypes.c_char_p
    loaded.ggml_blck_size.restype = ctypes.c_int64
    loaded.ggml_type_size.restype = ctypes.c_size_t
    yield loaded


def test_tensor_types_are_those_of_ggml(ggml: ctypes.CDLL) -> None:
    for number in range(43):
        block = ggml.ggml_blck_size(number)
        if number in TENSOR_TYPES:
            ours = TENSOR_TYPES[number]
            assert ggml.ggml_type_name(number).decode().upper() == ours.name
            assert (block, ggml.ggml_type_size(number)) == (ours.block, ours.block_bytes)
            assert 1 < ours.bits <= 64
        else:
            assert block == 0 and number in REMOVED_TENSOR_TYPES


def test_file_types_are_those_of_llama_cpp(ggml: ctypes.CDLL) -> None:
    sizes = {"Small": "S", "Medium": "M", "Large": "L"}
    for number in range(60):
        said = ggml.llama_ftype_name(number).decode()
        if said.startswith("unknown"):
            # Removed, and named here all the same.
            assert number in (4, 5, 6, 33, 34, 35) or number not in FILE_TYPES
            continue
        name, _, rest = said.partition(" - ")
        name = name.removeprefix("all ").removesuffix(" MoE").removesuffix(" mix")
        label = FILE_TYPES[number].label
        assert label == (f"{name}_{sizes[rest]}" if rest in sizes else name) or label in ("Q2_K", "IQ3_M")
        assert FILE_TYPES[number].types <= {kind.name for kind in TENSOR_TYPES.values()}


class _InitParams(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p)]


@pytest.mark.parametrize(
    ("tensors", "count"),
    [
        (tensor(b"a", 4) + tensor(b"b", 4, offset=32), 2),
        (tensor(b"a", 4) + tensor(b"b", 4, offset=64), 2),
        (tensor(b"a", 4) + tensor(b"b", 4), 2),
        (tensor(b"a", 4, offset=32) + tensor(b"b", 4), 2),
        (tensor(b"a", 4) + tensor(b"a", 4, offset=32), 2),
        (tensor(b"a", 33, kind=8), 1),
        (tensor(b"a", 32, kind=31), 1),
        (tensor(b"a", 1, 1, 1, 1, 1), 1),
        (tensor(b"a"), 1),
        (tensor(b"a", 0), 1),
    ],
    ids=["whole", "gap", "overlap", "disorder", "twice", "row", "removed type", "rank", "scalar", "empty"],
)
def test_the_engine_refuses_the_same_tensor_tables(
    ggml: ctypes.CDLL, tmp_path: Path, tensors: bytes, count: int
) -> None:
    path = header_with(tmp_path, tensors=tensors, tensor_count=count)
    ggml.gguf_init_from_file.argtypes = [ctypes.c_char_p, _InitParams]
    ggml.gguf_init_from_file.restype = ctypes.c_void_p
    accepted = bool(ggml.gguf_init_from_file(str(path).encode(), _InitParams(True, None)))
    try:
        inspect(path)
    except BadFile:
        assert not accepted
    else:
        assert accepted
