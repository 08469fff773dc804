"""How weights were coded before GGUF: which blocks each generation of files has, and what becomes of them.

Read off llama.cpp's ggml.c of those days. Blocks kept neighbours in one byte until commit b9fd7ee (12 May 2023, GGJT
v2), and scales of Q4_0, Q4_1 and Q8_0 in 32 bits until 2d5db48 (19 May 2023, GGJT v3), whose blocks are today's.
Q4_2 lived from 18 April to 12 May, Q4_3 from 20 to 28 April. Files of the very first day, 10 March, kept the scales of
a row in front of it; nothing in them says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from uml.formats.gguf.tables import TENSOR_TYPE_IDS


class Coding(NamedTuple):
    """Blocks of a kind: `floats` numbers of 32 bits, then `kept` bytes that are as today, then `quants` bytes.

    block: elements of one. paired: a byte of `quants` has two neighbours; today those that lie half a block apart.
    becomes: the tensor type of GGUF that it is made into.
    """

    name: str
    block: int
    floats: int
    kept: int
    quants: int
    paired: bool
    becomes: str

    @property
    def block_bytes(self) -> int:
        """Of one block in the old file."""
        return 4 * self.floats + self.kept + self.quants

    @property
    def new_type(self) -> int:
        """The number of `becomes`."""
        return TENSOR_TYPE_IDS[self.becomes]

    @property
    def copied(self) -> bool:
        """Whether the bytes are those of GGUF."""
        return not self.floats and not self.paired

    @property
    def packed_anew(self) -> bool:
        """Whether nothing today has such blocks, so that other numbers come out."""
        return self.name != self.becomes

    def size(self, elements: int) -> int:
        """Bytes of so many elements in the old file."""
        return elements // self.block * self.block_bytes


def _same(name: str, block: int, size: int) -> Coding:
    return Coding(name, block, 0, size, 0, False, name)


_ALWAYS: Final = {0: _same("F32", 1, 4), 1: _same("F16", 1, 2)}
_Q5_NOW: Final = {6: _same("Q5_0", 32, 22), 7: _same("Q5_1", 32, 24)}
_Q8_THEN: Final = {8: Coding("Q8_0", 32, 1, 0, 32, False, "Q8_0")}

FIRST: Final[Mapping[int, Coding]] = {
    **_ALWAYS,
    2: Coding("Q4_0", 32, 1, 0, 16, True, "Q4_0"),
    3: Coding("Q4_1", 32, 2, 0, 16, True, "Q4_1"),
    4: Coding("Q4_2", 16, 0, 2, 8, True, "Q8_0"),
    5: Coding("Q4_3", 16, 0, 4, 8, True, "Q8_0"),
    6: Coding("Q5_0", 32, 0, 6, 16, True, "Q5_0"),
    7: Coding("Q5_1", 32, 0, 8, 16, True, "Q5_1"),
    **_Q8_THEN,
}
"""Unversioned GGML, GGMF v1 and GGJT v1: number in the file -> what it means."""

SECOND: Final[Mapping[int, Coding]] = {
    **_ALWAYS,
    2: Coding("Q4_0", 32, 1, 0, 16, False, "Q4_0"),
    3: Coding("Q4_1", 32, 2, 0, 16, False, "Q4_1"),
    **_Q5_NOW,
    **_Q8_THEN,
}
"""GGJT v2."""

THIRD: Final[Mapping[int, Coding]] = {
    **_ALWAYS,
    2: _same("Q4_0", 32, 18),
    3: _same("Q4_1", 32, 20),
    **_Q5_NOW,
    8: _same("Q8_0", 32, 34),
    10: _same("Q2_K", 256, 84),
    11: _same("Q3_K", 256, 110),
    12: _same("Q4_K", 256, 144),
    13: _same("Q5_K", 256, 176),
    14: _same("Q6_K", 256, 210),
}
"""GGJT v3."""
