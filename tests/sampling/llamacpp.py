"""llama.cpp's own samplers, called in the library that the wheel brings, with nothing loaded: what ours must equal."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class _Token(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float)]


class _Tokens(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.POINTER(_Token)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    ]


class _Vector(ctypes.Structure):
    """libstdc++'s `std::vector`."""

    _fields_ = [("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("room", ctypes.c_void_p)]


DRY = "_Z30llama_sampler_init_dry_testingffiiRKSt6vectorIS_IiSaIiEESaIS1_EE"
_FLOAT, _INT, _SIZE, _SEED = ctypes.c_float, ctypes.c_int32, ctypes.c_size_t, ctypes.c_uint32
_ARGUMENTS: dict[str, list[Any]] = {
    "llama_sampler_init_top_k": [_INT],
    "llama_sampler_init_top_p": [_FLOAT, _SIZE],
    "llama_sampler_init_min_p": [_FLOAT, _SIZE],
    "llama_sampler_init_typical": [_FLOAT, _SIZE],
    "llama_sampler_init_top_n_sigma": [_FLOAT],
    "llama_sampler_init_xtc": [_FLOAT, _FLOAT, _SIZE, _SEED],
    "llama_sampler_init_temp_ext": [_FLOAT, _FLOAT, _FLOAT],
    "llama_sampler_init_penalties": [_INT, _INT, _FLOAT, _FLOAT, _FLOAT],
    "llama_sampler_init_mirostat": [_INT, _SEED, _FLOAT, _FLOAT, _INT],
    "llama_sampler_init_mirostat_v2": [_SEED, _FLOAT, _FLOAT],
    "llama_sampler_init_adaptive_p": [_FLOAT, _FLOAT, _SEED],
    DRY: [_FLOAT, _FLOAT, _INT, _INT, ctypes.POINTER(_Vector)],
}


@cache
def _library() -> ctypes.CDLL:
    from xllamacpp import xllamacpp

    library = ctypes.CDLL(xllamacpp.__file__)
    for name, arguments in _ARGUMENTS.items():
        if name == DRY and not hasattr(library, DRY):
            continue
        getattr(library, name).argtypes = arguments
        getattr(library, name).restype = ctypes.c_void_p
    library.llama_sampler_apply.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Tokens)]
    library.llama_sampler_accept.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    library.llama_sampler_free.argtypes = [ctypes.c_void_p]
    return library


def has_dry() -> bool:
    """Whether the library tells DRY under this name: it is made of libstdc++'s."""
    return hasattr(_library(), DRY)


@dataclass(frozen=True)
class Left:
    """What a sampler left: candidates that have a probability, by token; and the one that it chose, if it chooses."""

    logits: dict[int, float]
    chosen: int | None


@dataclass(frozen=True)
class Sampler:
    """One of llama.cpp's samplers, with what it has seen."""

    handle: int

    def accept(self, tokens: Iterable[int]) -> None:
        """Let it see tokens."""
        for token in tokens:
            _library().llama_sampler_accept(self.handle, token)

    def apply(self, logits: Floats, ids: Sequence[int] | None = None) -> Left:
        """Let it act on candidates."""
        row = (_Token * len(logits))()
        for place, logit in enumerate(logits.tolist()):
            row[place] = _Token(ids[place] if ids is not None else place, logit, 0.0)
        tokens = _Tokens(ctypes.cast(row, ctypes.POINTER(_Token)), len(logits), -1, False)
        _library().llama_sampler_apply(self.handle, ctypes.byref(tokens))
        found = [tokens.data[place] for place in range(tokens.size)]
        chosen = found[tokens.selected].id if tokens.selected >= 0 else None
        return Left({token.id: token.logit for token in found if token.logit > float("-inf")}, chosen)


@contextmanager
def sampler(name: str, *arguments: float) -> Iterator[Sampler]:
    """`llama_sampler_init_NAME`."""
    library = _library()
    handle = getattr(library, f"llama_sampler_init_{name}")(*arguments)
    try:
        yield Sampler(handle)
    finally:
        library.llama_sampler_free(handle)


@contextmanager
def dry_sampler(
    multiplier: float, base: float, allowed: int, last: int, breakers: Sequence[Sequence[int]]
) -> Iterator[Sampler]:
    """DRY with breakers that are tokens."""
    library = _library()
    arrays = [(ctypes.c_int32 * len(breaker))(*breaker) for breaker in breakers]
    inner = (_Vector * len(arrays))(
        *(
            _Vector(start := ctypes.addressof(array), start + ctypes.sizeof(array), start + ctypes.sizeof(array))
            for array in arrays
        )
    )
    start, size = ctypes.addressof(inner), ctypes.sizeof(inner)
    outer = _Vector(start, start + size, start + size)
    handle = getattr(library, DRY)(multiplier, base, allowed, last, ctypes.byref(outer))
    try:
        yield Sampler(handle)
    finally:
        library.llama_sampler_free(handle)
