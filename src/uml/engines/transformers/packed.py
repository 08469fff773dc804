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
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

_log = logging.getLogger(__name__)

PART: Final = 1 << 23
"""Weights that are re-ordered at a time: 32 MiB while they are float32."""
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

Between = Callable[[Callable[[], None]], Future[None]]


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
    """Multiplies by a matrix `[rows, columns]` that is packed in parts, each of some of its rows."""

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
            some = multiply(wide, part)
            found[..., begin : begin + some.shape[-1]] = some
            begin += some.shape[-1]
        return found


class Packing:
    """Packs the matrices of a model while it answers.

    between: has something done between two steps. threads: that pack at once.
    """

    def __init__(self, model: torch.nn.Module, between: Between, threads: int) -> None:
        self._between, self._closed = between, False
        # Only Linux lets a thread be nicer than its process; elsewhere, one of them disturbs little.
        self._pool = ThreadPoolExecutor(threads if sys.platform == "linux" else 1, "pack", initializer=_be_nice)
        found = matrices(model)
        made = [(linear, [self._pool.submit(*task) for task in tasks(linear)]) for linear in found]
        self._thread = threading.Thread(target=self._run, args=(made,), name="packing", daemon=True)
        self._thread.start()
        if sum(linear.weight.numel() for linear in found) <= AT_ONCE:
            self.wait()

    def wait(self) -> None:
        """Until all are packed."""
        self._thread.join()

    def close(self) -> None:
        """Leave the rest as it is."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, made: list[tuple[torch.nn.Linear, list[Future[Any]]]]) -> None:
        try:
            while made and not self._closed:
                linear, futures = made.pop(0)
                parts = [future.result() for future in futures]
                if all(part is not None for part in parts):
                    self._between(partial(put, linear, parts)).result()
        except CancelledError:
            pass
        except (MemoryError, RuntimeError) as error:
            # Where memory runs out, PyTorch raises a RuntimeError: the rest stays as it is, and answers.
            _log.warning("weights were left as they are: %s", error)
        self.close()
        # What was float32 for a moment stays with the threads' memory otherwise.
        if trim := getattr(_libc(), "malloc_trim", None):
            trim(0)


def tasks(linear: torch.nn.Linear) -> Iterator[tuple[Any, ...]]:
    """What makes the parts of a matrix: a function and its arguments each."""
    each = max(1, PART // linear.in_features)
    for begin in range(0, linear.out_features, each):
        bias = None if linear.bias is None else linear.bias[begin : begin + each]
        yield part_of, linear.weight[begin : begin + each], bias


def part_of(weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    """Some rows of a matrix, packed; None where float16 would not hold them."""
    wide = _wide(weight)
    if not np.abs(wide).max() <= MOST or (weight.dtype == torch.bfloat16 and np.abs(wide).mean() < LEAST_MEAN):
        return None
    return torch.ops.quantized.linear_prepack_fp16(torch.from_numpy(wide), None if bias is None else bias.float())


def _wide(weight: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """In float32. By numpy: PyTorch would start a crew of threads for every thread that asks for it."""
    weight = weight.detach()
    if weight.dtype == torch.float16:
        half: np.ndarray[Any, np.dtype[np.float32]] = weight.numpy().astype(np.float32)
        return half
    bits = weight.contiguous().view(torch.int16).numpy().view(np.uint16).astype(np.uint32)
    bits <<= 16
    wide: np.ndarray[Any, np.dtype[np.float32]] = bits.view(np.float32)
    return wide


def put(linear: torch.nn.Linear, parts: Sequence[Any]) -> None:
    """Let a layer multiply by these, and give the memory of its weights back."""
    weight = linear.weight
    linear.forward = Packed(linear.out_features, parts)  # this one layer's, and no other's
    # Shape, type and device are still asked for, say by adapters; the numbers are nobody's any more.
    nothing = torch.full((), torch.nan, dtype=weight.dtype).expand(weight.shape)
    linear.weight = torch.nn.Parameter(nothing, requires_grad=False)
    unmap(weight.data_ptr(), weight.nbytes)


def unmap(address: int, size: int) -> None:
    """Give back what lies in memory of a mapped file of weights; whoever reads it again has it read from the file.

    Only a whole file's mapping would go by itself, and another tensor of the file may still be in use.
    """
    if sys.platform != "linux":
        return
    page = os.sysconf("SC_PAGE_SIZE")
    begin, end = -(-address // page) * page, (address + size) // page * page
    if begin < end and _of_weights(begin, end):
        _libc().madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), DONT_NEED)


def _of_weights(begin: int, end: int) -> bool:
    """Whether a range of memory is a mapping of safetensors, which nobody has written to."""
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            span, *_, name = line.rstrip("\n").split(None, 5)
            low, high = (int(number, 16) for number in span.split("-"))
            if low <= begin < high:
                return end <= high and name.endswith(".safetensors")
    return False


def _libc() -> Any:
    """What the process is linked with; nothing but on Linux."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def _be_nice() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
