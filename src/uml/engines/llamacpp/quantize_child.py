"""The child's side of a quantization: llama.cpp's own code packs weights, piece by piece, on all cores.

Run as a file, with the standard library alone: `python -I quantize_child.py LIBRARY JOB.json`. It is a process of its
own because ggml aborts where it is not content. The functions are those that llama.cpp's quantizer calls (ggml.h of
b11549); ctypes gives the interpreter's lock back while they work. One line a percent on stdout.
"""

from __future__ import annotations

import ctypes as c
import json
import math
import os
import struct
import sys
from array import array
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final

PIECE: Final = 1 << 20
"""Numbers that a thread works on at once: 4 MiB as float32."""
F32: Final = 0
FLOAT8: Final = {"F8_E4M3": (4, 7, True), "F8_E5M2": (5, 15, False)}
"""Type of safetensors -> bits of the exponent, its bias, and whether there is no infinity."""
SCALES_KEPT: Final = 64
"""Tables of numbers that are kept, one a scale."""


class Traits(c.Structure):
    """ggml_type_traits."""

    _fields_ = (
        ("name", c.c_char_p),
        ("block", c.c_int64),
        ("interleave", c.c_int64),
        ("block_bytes", c.c_size_t),
        ("quantized", c.c_bool),
        ("to_float", c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_int64)),
        ("from_float", c.c_void_p),
    )


class Library:
    """The functions of ggml that are needed, declared, and the structure checked with what is known of types."""

    def __init__(self, path: str, types: Mapping[str, tuple[str, int, int]]) -> None:
        library = c.CDLL(path)
        library.ggml_get_type_traits.restype, library.ggml_get_type_traits.argtypes = c.POINTER(Traits), (c.c_int,)
        library.ggml_quantize_chunk.restype = c.c_size_t
        library.ggml_quantize_chunk.argtypes = (
            *(c.c_int, c.c_void_p, c.c_void_p),
            *(c.c_int64, c.c_int64, c.c_int64, c.c_void_p),
        )
        library.ggml_validate_row_data.restype = c.c_bool
        library.ggml_validate_row_data.argtypes = (c.c_int, c.c_void_p, c.c_size_t)
        self._library = library
        self._traits = {int(kind): library.ggml_get_type_traits(int(kind)).contents for kind in types}
        for kind, (name, block, block_bytes) in types.items():
            found = self._traits[int(kind)]
            told = ((found.name or b"").decode().upper(), found.block, found.block_bytes)
            if told != (name.upper(), block, block_bytes):
                sys.exit(f"RuntimeError: this build of llama.cpp says {told} of {name}, whose layout is another")

    def size(self, kind: int, numbers: int) -> int:
        """Bytes that so many numbers take."""
        traits = self._traits[kind]
        return int(numbers // traits.block * traits.block_bytes)

    def packed(
        self, raw: bytes, old: int, new: int, columns: int, plus: float = 0.0, importance: bytes | None = None
    ) -> bytes:
        """Whole rows of one type as another, and more by `plus`. Raises ValueError for what is no number.

        importance: of each column, in float32; None: all alike.
        """
        rows = len(raw) * self._traits[old].block // self._traits[old].block_bytes // columns
        if not self._library.ggml_validate_row_data(old, raw, len(raw)):
            raise ValueError("there are weights that are no numbers")
        floats = (c.c_float * (rows * columns))()
        if old == F32:
            c.memmove(floats, raw, len(raw))
        else:
            self._traits[old].to_float(c.cast(c.c_char_p(raw), c.c_void_p), floats, rows * columns)
        if plus:
            for at in range(rows * columns):
                floats[at] += plus
        if new == F32:
            return bytes(floats)
        out = c.create_string_buffer(self.size(new, rows * columns))
        written = self._library.ggml_quantize_chunk(new, floats, out, 0, rows, columns, importance)
        if written != len(out) or not self._library.ggml_validate_row_data(new, out, written):
            raise ValueError("llama.cpp made something else of them than numbers")
        return out.raw


class Codes:
    """Bytes of FP8 as float32, each times the scale of its block.

    code: name (of safetensors), begin (which row of those that the scales stand for comes first), and scales: path,
    offset, dtype, count, block (rows and columns of a scale) and across (scales side by side), or None. source: the
    file of the scales.
    """

    def __init__(self, code: Mapping[str, Any], source: int) -> None:
        told = code["scales"]
        self._values = [float8(byte, *FLOAT8[code["name"]]) for byte in range(256)]
        self._begin = int(code["begin"])
        block: tuple[int, int] = told["block"] if told else (sys.maxsize, sys.maxsize)
        self._down, self._wide = block
        self._across = told["across"] if told else 1
        self._scales = scales(source, told["dtype"], told["count"], told["offset"]) if told else [1.0]
        self._planes = lru_cache(SCALES_KEPT)(self._times)

    def numbers(self, raw: bytes, first: int, columns: int) -> bytes:
        """Whole rows, of which the first has this number."""
        rows, row, out = len(raw) // columns, 0, bytearray(4 * len(raw))
        while row < rows:
            band, done = divmod(self._begin + first + row, self._down)
            end = min(rows, row + self._down - done)
            for block, at in enumerate(range(0, columns, self._wide)):
                planes, width = self._planes(self._scales[band * self._across + block]), min(self._wide, columns - at)
                if width == columns:
                    out[4 * row * columns : 4 * end * columns] = spread(raw[row * columns : end * columns], planes)
                    continue
                starts = [one * columns + at for one in range(row, end)]
                made = spread(b"".join([raw[start : start + width] for start in starts]), planes)
                for number, start in enumerate(starts):
                    out[4 * start : 4 * (start + width)] = made[4 * number * width : 4 * (number + 1) * width]
            row = end
        return bytes(out)

    def _times(self, scale: float) -> tuple[bytes, ...]:
        """The four bytes of each code's number, as tables for `bytes.translate`."""
        table = array("f", [value * scale for value in self._values]).tobytes()
        return tuple(table[byte::4] for byte in range(4))


def float8(byte: int, exponent_bits: int, bias: int, finite: bool) -> float:
    """The number of a code: sign, exponent, mantissa (Micikevicius and others, FP8 Formats for Deep Learning, 2022).

    finite: the largest exponent is of numbers but for the last mantissa, and there is no infinity.
    """
    mantissa_bits = 7 - exponent_bits
    exponent, mantissa = (byte & 0x7F) >> mantissa_bits, byte & ((1 << mantissa_bits) - 1)
    top, sign = (1 << exponent_bits) - 1, -1.0 if byte & 0x80 else 1.0
    if exponent == top and (mantissa == (1 << mantissa_bits) - 1 or not finite):
        return math.nan if finite or mantissa else sign * math.inf
    if exponent == 0:
        return sign * math.ldexp(mantissa, 1 - bias - mantissa_bits)
    return sign * math.ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)


def scales(source: int, dtype: str, count: int, offset: int) -> list[float]:
    """Numbers of a tensor of safetensors. Raises ValueError where the file has become shorter."""
    if dtype == "F8_E8M0":
        return [math.ldexp(1.0, byte - 127) if byte < 255 else math.nan for byte in read(source, count, offset)]
    raw = read(source, count * (4 if dtype == "F32" else 2), offset)
    if dtype == "BF16":
        raw = b"".join([b"\0\0" + raw[at : at + 2] for at in range(0, len(raw), 2)])
    return list(struct.unpack(f"<{count}{'e' if dtype == 'F16' else 'f'}", raw))


def spread(raw: bytes, planes: tuple[bytes, ...]) -> bytearray:
    """Each byte as the four that the tables have for it."""
    out = bytearray(4 * len(raw))
    for place, plane in enumerate(planes):
        out[place::4] = raw.translate(plane)
    return out


class Rows:
    """The rows of one tensor, of which several threads make a few each.

    codes: how its bytes become float32, where they are of FP8. figures: the file with the importance of columns, where
    the tensor has some.
    """

    def __init__(
        self,
        library: Library,
        tensor: Mapping[str, Any],
        source: int,
        target: int,
        figures: int = -1,
        codes: Codes | None = None,
    ) -> None:
        self._library, self._source, self._target = library, source, target
        self._old, self._new, self._from, self._to = (int(tensor[key]) for key in ("from", "to", "offset", "at"))
        self._count, self._columns = int(tensor["rows"]), int(tensor["columns"])
        self._head, self._plus = int(tensor.get("head", 1)), float(tensor.get("plus", 0))
        # Whole heads, whose rows change their places.
        self.step = max(1, PIECE // self._columns // self._head) * self._head
        self._codes = codes
        self._figures, self._important = figures, tensor.get("important")
        # Rows of one expert, whose columns matter alike.
        self._each = int(tensor.get("each", self._count)) or 1

    def starts(self) -> Iterator[int]:
        """Where each piece of `step` rows begins; none of them is of two experts."""
        for begin in range(0, self._count, self._each):
            yield from range(begin, min(begin + self._each, self._count), self.step)

    def make(self, first: int) -> int:
        """`step` rows from this one on, fewer at the end; how many numbers. Raises ValueError, OSError."""
        library, old, new, before = self._library, self._old, self._new, first * self._columns
        expert = first // self._each
        numbers = (min(first + self.step, (expert + 1) * self._each, self._count) - first) * self._columns
        if self._codes:
            raw = self._codes.numbers(read(self._source, numbers, self._from + before), first, self._columns)
        else:
            raw = read(self._source, library.size(old, numbers), self._from + library.size(old, before))
        if self._head > 1:
            raw = paired(raw, self._head, library.size(old, self._columns))
        if old == new and not self._plus and not self._codes:
            made = raw
        else:
            made = library.packed(raw, old, new, self._columns, self._plus, self._importance(expert))
        write(self._target, made, self._to + library.size(new, before))
        return numbers

    def _importance(self, expert: int) -> bytes | None:
        if self._important is None:
            return None
        return read(self._figures, 4 * self._columns, int(self._important) + 4 * self._columns * expert)


def main(path: str, job_path: str) -> None:
    """Fill the weights of the file that the job names, whose head is there."""
    if sys.platform == "linux":
        c.CDLL(None).prctl(1, 9)  # killed with its parent, it would work on for nobody: PR_SET_PDEATHSIG
    with open(job_path, encoding="utf-8") as file:  # noqa: PTH123  # pathlib takes 10 ms to import
        job: dict[str, Any] = json.load(file)
    library = Library(path, job["types"])
    total = sum(piece["rows"] * piece["columns"] for piece in job["tensors"]) or 1
    names = {piece[key] for piece in job["tensors"] for key in ("path", "figures") if key in piece}
    names |= {scaled["path"] for piece in job["tensors"] if (scaled := piece.get("code", {}).get("scales"))}
    sources = {name: os.open(name, os.O_RDONLY) for name in names}
    target = os.open(job["out"], os.O_WRONLY)
    done = said = 0
    with ThreadPoolExecutor(job["threads"]) as pool:
        for tensor in job["tensors"]:
            try:
                figures, codes = sources.get(tensor.get("figures", ""), -1), coded(tensor, sources)
                rows = Rows(library, tensor, sources[tensor["path"]], target, figures, codes)
                for count in pool.map(rows.make, rows.starts()):
                    done += count
                    if (percent := 100 * done // total) > said:
                        said = percent
                        print(f"{percent}% {tensor['name']}", flush=True)  # noqa: T201  # the parent reads it
            except ValueError as error:
                sys.exit(f"ValueError: {tensor['name']}: {error}")
            except OSError as error:
                sys.exit(f"OSError: {tensor['name']}: {error.strerror or error}")
    os.fsync(target)


def coded(tensor: Mapping[str, Any], sources: Mapping[str, int]) -> Codes | None:
    """How the bytes of a tensor become numbers; None where llama.cpp knows. sources: open files by name."""
    code = tensor.get("code")
    return Codes(code, sources[code["scales"]["path"]] if code["scales"] else -1) if code else None


def paired(raw: bytes, head: int, row: int) -> bytes:
    """Rows of heads with those neighbours that llama.cpp turns together: 0, half, 1, half + 1, ...

    head: rows of a head. row: bytes of a row. Transformers keeps the two halves of a head apart.
    """
    out, half = bytearray(len(raw)), head // 2
    for start in range(0, len(raw), head * row):
        for at in range(half):
            first, to = start + at * row, start + 2 * at * row
            out[to : to + row] = raw[first : first + row]
            out[to + row : to + 2 * row] = raw[first + half * row : first + (half + 1) * row]
    return bytes(out)


def read(source: int, count: int, offset: int) -> bytes:
    """So many bytes of a file. Raises ValueError where it has become shorter."""
    raw = os.pread(source, count, offset)
    while len(raw) < count:
        part = os.pread(source, count - len(raw), offset + len(raw))
        if not part:
            raise ValueError("the file became shorter while it was read")
        raw += part
    return raw


def write(target: int, data: bytes, offset: int) -> None:
    """All the bytes, there."""
    view = memoryview(data)
    while view:
        written = os.pwrite(target, view, offset)
        view, offset = view[written:], offset + written


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
