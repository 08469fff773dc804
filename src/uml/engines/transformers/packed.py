"""Matrices of 16 bits on processors that cannot multiply such numbers.

There, PyTorch makes every weight wider again for each row of a step, and eight rows cost almost three times what one
costs. FBGEMM, which comes with PyTorch, widens it once for all rows, in registers. It wants weights in a layout of its
own; re-ordering takes a processor some 16 seconds for a billion, so it happens beside the first answers, at a low
priority, matrix by matrix between two steps. What a row gets does not depend on how many others there are, to the bit.

FBGEMM keeps float16, in which a bfloat16 number of 2**-17 and more is exact, and a smaller one off by 2**-25 at most.
Sums are in float32, rounded to the model's own type at the end, as PyTorch does it.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from uml.engines.transformers.reading import libc, resident_bytes, trim

_log = logging.getLogger(__name__)

WHOLE: Final = 1 << 23
"""Weights of a matrix that is packed as it is."""
PART: Final = 1 << 22
"""Weights of each part of a larger one: 16 MiB while they are float32, and some more calls for each step."""
BLOCK: Final = 32
"""Rows of a matrix that FBGEMM's widest kernel takes together."""
WORK_BYTES: Final = 7
"""Of memory, at most, for each weight of a part: 4 of its float32, and what is packed of it, with what it is rounded up
by."""
ROOM_SHARE: Final = 24
"""Of the model's memory, what packing may take besides at a time; it always may take one part."""
LEAST: Final = 1 << 18
"""Smaller matrices stay in the processor's cache, and calling for them takes longer than computing."""
AT_ONCE: Final = 1 << 23
"""Models of so few weights are packed before they are ready: a tenth of a second."""
MOST: Final = 65504.0
"""The largest float16."""
LEAST_MEAN: Final = 2.0**-11
"""Of the sizes of weights: below it, an error of 2**-25 is no longer far below bfloat16's own, of 2**-9 of each."""
NICE: Final = 10
"""A tenth of what the others get, where a processor is wanted by all."""
DONT_NEED: Final = 4
"""`MADV_DONTNEED` of Linux."""

Between = Callable[[Callable[[], int]], Future[int]]


def helps(dtype: torch.dtype) -> bool:
    """Whether this processor has no instructions for numbers of this type, and FBGEMM runs on it."""
    if "fbgemm" not in torch.backends.quantized.supported_engines or not hasattr(torch.cpu, "get_capabilities"):
        return False
    has = torch.cpu.get_capabilities()
    needed = {torch.bfloat16: ("avx512_bf16", "amx_bf16"), torch.float16: ("avx512_fp16", "amx_fp16")}
    return bool(has.get("avx2")) and dtype in needed and not any(has.get(name) for name in needed[dtype])


def matrices(model: torch.nn.Module) -> list[torch.nn.Linear]:
    """Those of a model that can be packed: plain ones in memory, in 16 bits, that are worth it, in their order."""
    return [
        part
        for part in model.modules()
        # Whoever has made a class of his own may compute with its weights otherwise.
        if type(part) is torch.nn.Linear
        and part.weight.device.type == "cpu"
        and part.weight.dtype in (torch.bfloat16, torch.float16)
        and part.weight.numel() >= LEAST
    ]


class Packed:
    """Multiplies by a matrix `[rows, columns]` in parts, each of some of its rows: packed, or the weights as they are.

    A part that is not packed is a pair of weights and biases.
    """

    __slots__ = ("_parts", "_rows")

    def __init__(self, rows: int, parts: Sequence[Any]) -> None:
        self._rows, self._parts = rows, parts

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """`[..., columns]` -> `[..., rows]`, in the type that it was."""
        multiply = torch.ops.quantized.linear_dynamic_fp16.default
        wide = states.to(torch.float32, memory_format=torch.contiguous_format)
        if len(self._parts) == 1:
            alone: torch.Tensor = multiply(wide, self._parts[0]).to(states.dtype)
            return alone
        found = states.new_empty((*states.shape[:-1], self._rows))
        begin = 0
        for part in self._parts:
            some = torch.nn.functional.linear(states, *part) if type(part) is tuple else multiply(wide, part)
            found[..., begin : begin + some.shape[-1]] = some
            begin += some.shape[-1]
        return found


@dataclass(slots=True)
class Matrix:
    """A matrix that is being packed: some of its rows in each part, from the first on."""

    linear: torch.nn.Linear
    parts: list[Any]
    spans: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, linear: torch.nn.Linear) -> Matrix:
        """Nothing of it packed yet; in parts that are as even as whole blocks of the kernel allow."""
        rows = linear.out_features
        count = 1 if linear.weight.numel() <= WHOLE else -(-linear.weight.numel() // PART)
        each = -(-rows // count // BLOCK) * BLOCK
        spans = [(begin, min(rows, begin + each)) for begin in range(0, rows, each)]
        matrix = cls(linear, [], spans)
        matrix.parts += [matrix.rows(number) for number in range(len(spans))]
        return matrix

    def rows(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weights and biases of a part."""
        begin, end = self.spans[number]
        bias = self.linear.bias
        return self.linear.weight[begin:end], None if bias is None else bias[begin:end]

    def put(self, number: int, part: Any) -> int:
        """Let the layer multiply by a part that is packed, and give the memory of these weights back.

        Result: bytes that are given back to the C library only.
        """
        linear, (weight, _) = self.linear, self.parts[number]
        self.parts[number] = part
        linear.forward = Packed(linear.out_features, tuple(self.parts))  # this one layer's, and no other's
        if not any(type(part) is tuple for part in self.parts):
            # Shape, type and device are still asked for, say by adapters; the numbers are nobody's any more.
            nothing = torch.full((), torch.nan, dtype=weight.dtype).expand(linear.weight.shape)
            linear.weight = torch.nn.Parameter(nothing, requires_grad=False)
        return 0 if unmap(weight.data_ptr(), weight.nbytes) else weight.nbytes


class Packing:
    """Packs the matrices of a model while it answers.

    between: has something done between two steps. threads: that pack at once.
    """

    def __init__(self, model: torch.nn.Module, between: Between, threads: int) -> None:
        self._between, self._closed, self._kept = between, False, 0
        # Only Linux lets a thread be nicer than its process; elsewhere, one of them disturbs little.
        self._pool = ThreadPoolExecutor(threads if sys.platform == "linux" else 1, "pack", initializer=_be_nice)
        found = matrices(model)
        weights = sum(linear.weight.numel() for linear in found)
        self._room = (resident_bytes() + 2 * weights) // ROOM_SHARE
        self._thread = threading.Thread(target=self._run, args=(found,), name="packing", daemon=True)
        self._thread.start()
        if weights <= AT_ONCE:
            self.wait()

    def wait(self) -> None:
        """Until all are packed."""
        self._thread.join()

    def close(self) -> None:
        """Leave the rest as it is."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, found: list[torch.nn.Linear]) -> None:
        made: deque[tuple[Matrix, int, Future[Any], int]] = deque()
        held = 0
        try:
            for matrix in map(Matrix.of, found):
                for number in range(len(matrix.spans)):
                    weight, bias = matrix.rows(number)
                    size = WORK_BYTES * weight.numel()
                    # What is packed lies beside its weights until the step is over that uses them.
                    while made and held + size > self._room:
                        held -= self._put(*made.popleft())
                    if self._closed:
                        return
                    made.append((matrix, number, self._pool.submit(part_of, weight, bias), size))
                    held += size
            while made and not self._closed:
                self._put(*made.popleft())
        except CancelledError:
            pass
        except (MemoryError, RuntimeError) as error:
            # Where memory runs out, PyTorch raises a RuntimeError: the rest stays as it is, and answers.
            if not self._closed:
                _log.warning("weights were left as they are: %s", error)
        finally:
            self.close()
            trim()

    def _put(self, matrix: Matrix, number: int, future: Future[Any], size: int) -> int:
        """Have a part used as soon as it is packed and a step is over; the room that there is again."""
        part = future.result()
        if part is not None:
            self._kept += self._between(partial(matrix.put, number, part)).result()
        if self._kept > self._room:
            trim()
            self._kept = 0
        return size


def part_of(weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    """Some rows of a matrix, packed; None where float16 would not hold them."""
    wide = _wide(weight)
    if not _fits(wide, weight.dtype):
        return None
    return torch.ops.quantized.linear_prepack_fp16(torch.from_numpy(wide), None if bias is None else bias.float())


def _fits(wide: np.ndarray[Any, np.dtype[np.float32]], dtype: torch.dtype) -> bool:
    """Whether float16 holds the weights, by some rows at a time: their sizes are as much memory as they are."""
    each = max(1, LEAST // wide.shape[1])
    total = 0.0
    for begin in range(0, len(wide), each):
        sizes = np.abs(wide[begin : begin + each])
        if not sizes.max() <= MOST:
            return False
        total += float(sizes.sum(dtype=np.float64))
    return dtype != torch.bfloat16 or total >= LEAST_MEAN * wide.size


def _wide(weight: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """In float32. By numpy: PyTorch would start a crew of threads for every thread that asks for it.

    In memory of its own, which is the system's again afterwards: the C library would keep it for the thread.
    """
    weight = weight.detach()
    wide = np.frombuffer(mmap.mmap(-1, 4 * weight.numel()), np.float32).reshape(weight.shape)
    if weight.dtype == torch.float16:
        wide[...] = weight.numpy()
    else:
        bits = wide.view(np.uint32)
        bits[...] = weight.contiguous().view(torch.int16).numpy().view(np.uint16)
        bits <<= 16
    return wide


def unmap(address: int, size: int) -> bool:
    """Give back what lies in memory of a mapped file of weights; whoever reads it again has it read from the file.

    Only a whole file's mapping would go by itself, and another tensor of the file may still be in use. Result: whether
    it lies in one.
    """
    if sys.platform != "linux":
        return False
    page = os.sysconf("SC_PAGE_SIZE")
    begin, end = -(-address // page) * page, (address + size) // page * page
    found = begin < end and _of_weights(begin, end)
    if found:
        libc().madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), DONT_NEED)
    return found


def _of_weights(begin: int, end: int) -> bool:
    """Whether a range of memory is a mapping of safetensors, which nobody has written to."""
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            span, *_, name = line.rstrip("\n").split(None, 5)
            low, high = (int(number, 16) for number in span.split("-"))
            if low <= begin < high:
                return end <= high and name.endswith(".safetensors")
    return False


def _be_nice() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
