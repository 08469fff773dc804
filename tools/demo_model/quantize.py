"""Weights as llama.cpp's quantized blocks, by llama.cpp's own code.

The `gguf` package packs Q8_0 and Q4_0 but none of the K types; the engine's library exports the function that
llama.cpp's own quantizer calls, so that is the one that is used here for all of them.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Type = gguf.GGMLQuantizationType


def quantized(weights: Array, kind: Type) -> Array:
    """Rows of float32 packed as `kind`: (rows, bytes of a row) of uint8; float types as they are.

    Raises ValueError where a row is no whole number of blocks.
    """
    if kind in (Type.F32, Type.F16):
        return weights.astype(np.float32 if kind is Type.F32 else np.float16)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = weights.shape
    if columns % block:
        raise ValueError(f"a row of {columns} numbers is no whole number of {kind.name} blocks of {block}")
    source = np.ascontiguousarray(weights, np.float32)
    packed = np.empty((rows, columns // block * size), np.uint8)
    written = _library().ggml_quantize_chunk(kind.value, source.ctypes.data, packed.ctypes.data, 0, rows, columns, None)
    if written != packed.nbytes:
        raise ValueError(f"llama.cpp wrote {written} bytes of {kind.name} where {packed.nbytes} were expected")
    return packed


@cache
def _library() -> ctypes.CDLL:
    import xllamacpp.xllamacpp

    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    # size_t ggml_quantize_chunk(type, src, dst, start, nrows, n_per_row, imatrix); ggml.h
    library.ggml_quantize_chunk.argtypes = (
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    )
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    return library


PLAIN: Final = {"f32": Type.F32, "f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0, "q4_k_m": Type.Q4_K}
"""The type of most matrices in a file of each kind."""


def tensor_type(kind: str, tensor: str, layers: int) -> Type:
    """The type of a matrix in a file of `kind`, as llama.cpp's quantizer mixes them.

    The embedding is the output too here, and errors in it reach every token: Q6_K in the 4-bit kinds. In Q4_K_M so
    are the values and the way down of the MLP in half of the layers (`use_more_bits` in llama-quant.cpp).
    """
    if kind not in ("q4_0", "q4_k_m"):
        return PLAIN[kind]
    if tensor == "token_embd.weight":
        return Type.Q6_K
    if kind == "q4_k_m" and tensor.endswith(("attn_v.weight", "ffn_down.weight")):
        layer = int(tensor.split(".")[1])
        first, last = layers // 8, 7 * layers // 8
        if layer < first or layer >= last or (layer - first) % 3 == 2:
            return Type.Q6_K
    return PLAIN[kind]
