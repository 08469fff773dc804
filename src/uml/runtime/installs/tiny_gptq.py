"""The tiny model with weights of 4 bits, as GPTQ stores them: to try the install that runs those.

Each is rounded to one of 16 places between the least and the greatest of its group; what it is then is known to the
bit, and so is the answer (tests/runtime/installs/reference.py; GPTQModel 7.7 on a processor gives the same).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from uml.runtime.installs import tiny
from uml.runtime.installs.tiny import Matrix

SEED: Final = 8
"""Of those from 0 the first whose closest call (0.29) leaves room for the roundings of F16."""
GROUP: Final = 64
ANSWER: Final = "pBYJ9qcJmqFWf1i1"
"""What follows the prompt of `tiny`, greedily."""
QUANTIZATION: Final = {
    "quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False,
    "checkpoint_format": "gptq",
}  # fmt: skip
_WORD: Final = 8
"""Places of 4 bits in a number of 32."""


def rounded(row: list[float]) -> Iterator[tuple[list[int], float, int]]:
    """Group by group of a row: the place of each weight, from 0 to 15, how far they are apart, and where 0 is."""
    for begin in range(0, len(row), GROUP):
        group = row[begin : begin + GROUP]
        low, high = min(0.0, *group), max(0.0, *group)
        scale = _half((high - low) / 15)
        zero = max(1, min(15, round(-low / scale)))
        yield [max(0, min(15, round(weight / scale) + zero)) for weight in group], scale, zero


def weights(seed: int = SEED) -> Iterator[tuple[str, Matrix]]:
    """As `tiny.weights`, as they are after rounding; what is not rounded to 4 bits is F16."""
    for name, rows in tiny.weights(seed):
        if _is_coded(name):
            yield name, [_decoded(row) for row in rows]
        else:
            yield name, [[_half(weight) for weight in row] for row in rows]


def write(folder: Path) -> Path:
    """Write the model into a folder, which is made. Raises OSError."""
    config = {**tiny.CONFIG, "dtype": "float16", "quantization_config": QUANTIZATION}
    return tiny.write_with(folder, config, _tensors())


def _tensors() -> Iterator[tiny.Tensor]:
    for name, rows in tiny.weights(SEED):
        if not _is_coded(name):
            shape = (len(rows), len(rows[0])) if len(rows) > 1 else (len(rows[0]),)
            yield name, "F16", shape, b"".join(struct.pack(f"<{len(row)}e", *row) for row in rows)
            continue
        yield from _coded(name.removesuffix("weight"), rows)


def _coded(stem: str, rows: Matrix) -> Iterator[tiny.Tensor]:
    """The four tensors in place of one, `[outputs, inputs]`: words hold 8 inputs each, those of zeros 8 outputs."""
    groups = [list(rounded(row)) for row in rows]
    outputs, inputs, parts = len(rows), len(rows[0]), len(groups[0])
    codes = [[code for group in row for code in group[0]] for row in groups]
    words = [
        _word([codes[output][begin + place] for place in range(_WORD)])
        for begin in range(0, inputs, _WORD)
        for output in range(outputs)
    ]
    # It stores zeros less one.
    zeros = [
        _word([groups[begin + place][part][2] - 1 for place in range(_WORD)])
        for part in range(parts)
        for begin in range(0, outputs, _WORD)
    ]
    scales = [groups[output][part][1] for part in range(parts) for output in range(outputs)]
    which = [place // GROUP for place in range(inputs)]
    yield f"{stem}qweight", "I32", (inputs // _WORD, outputs), struct.pack(f"<{len(words)}I", *words)
    yield f"{stem}qzeros", "I32", (parts, outputs // _WORD), struct.pack(f"<{len(zeros)}I", *zeros)
    yield f"{stem}scales", "F16", (parts, outputs), struct.pack(f"<{len(scales)}e", *scales)
    yield f"{stem}g_idx", "I32", (inputs,), struct.pack(f"<{inputs}i", *which)


def _is_coded(name: str) -> bool:
    return name.endswith("proj.weight")


def _decoded(row: list[float]) -> list[float]:
    return [(place - zero) * scale for places, scale, zero in rounded(row) for place in places]


def _word(places: list[int]) -> int:
    return sum(code << 4 * place for place, code in enumerate(places))


def _half(number: float) -> float:
    """As F16 holds it."""
    found: float = struct.unpack("<e", struct.pack("<e", number))[0]
    return found
