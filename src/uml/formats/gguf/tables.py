"""Tables of GGUF: tensor types with their blocks, file types with what is really in them.

Read off llama.cpp's own `ggml_type_name`, `ggml_blck_size`, `ggml_type_size` and `llama_ftype_name`
(the build pinned in pyproject); a test compares the tables with that library.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorType:
    """A storage type of ggml: `block` elements take `block_bytes` bytes."""

    name: str
    block: int
    block_bytes: int

    @property
    def bits(self) -> float:
        """Bits an element."""
        return self.block_bytes * 8 / self.block


TENSOR_TYPES: dict[int, TensorType] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}


def type_name(number: int) -> str:
    """The name of a tensor type; `type 137` for one of a fork."""
    known = TENSOR_TYPES.get(number)
    return known.name if known else f"type {number}"


REMOVED_TENSOR_TYPES: dict[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}
"""Types that llama.cpp once wrote and no longer reads."""

TENSOR_TYPE_IDS: dict[str, int] = {kind.name: number for number, kind in TENSOR_TYPES.items()}


@dataclass(frozen=True, slots=True)
class FileType:
    """A value of `general.file_type`: what people call it, and types of which one must be in the file."""

    label: str
    types: frozenset[str]


def _of(label: str, *types: str) -> FileType:
    return FileType(label, frozenset(types or (label,)))


FILE_TYPES: dict[int, FileType] = {
    0: _of("F32"),
    1: _of("F16"),
    2: _of("Q4_0"),
    3: _of("Q4_1"),
    4: _of("Q4_1", "Q4_1", "F16"),
    5: _of("Q4_2"),
    6: _of("Q4_3"),
    7: _of("Q8_0"),
    8: _of("Q5_0"),
    9: _of("Q5_1"),
    10: _of("Q2_K"),
    11: _of("Q3_K_S", "Q3_K"),
    12: _of("Q3_K_M", "Q3_K"),
    13: _of("Q3_K_L", "Q3_K"),
    14: _of("Q4_K_S", "Q4_K"),
    15: _of("Q4_K_M", "Q4_K"),
    16: _of("Q5_K_S", "Q5_K"),
    17: _of("Q5_K_M", "Q5_K"),
    18: _of("Q6_K"),
    19: _of("IQ2_XXS"),
    20: _of("IQ2_XS"),
    21: _of("Q2_K_S", "Q2_K"),
    22: _of("IQ3_XS", "IQ3_XXS", "IQ3_S"),
    23: _of("IQ3_XXS"),
    24: _of("IQ1_S"),
    25: _of("IQ4_NL"),
    26: _of("IQ3_S"),
    27: _of("IQ3_M", "IQ3_S"),
    28: _of("IQ2_S", "IQ2_XS", "IQ2_S"),
    29: _of("IQ2_M", "IQ2_S"),
    30: _of("IQ4_XS"),
    31: _of("IQ1_M"),
    32: _of("BF16"),
    33: _of("Q4_0_4_4"),
    34: _of("Q4_0_4_8"),
    35: _of("Q4_0_8_8"),
    36: _of("TQ1_0"),
    37: _of("TQ2_0"),
    38: _of("MXFP4", "MXFP4"),
    39: _of("NVFP4"),
    40: _of("Q1_0"),
    41: _of("Q2_0"),
}

FILE_TYPE_GUESSED = 1024
"""Flag of a file type that the writer did not know but guessed."""
