"""As little of torch as ExLlama's callers need."""

from __future__ import annotations

from typing import Any

import numpy as np

long = "long"
float = np.float32


class Tensor:
    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows
        self.shape = (len(rows), len(rows[0]))

    def __int__(self) -> int:
        ((value,),) = self.rows
        return value

    def __getitem__(self, index: int) -> list[int]:
        return self.rows[index]


def tensor(rows: list[list[int]], *, dtype: Any) -> Tensor:
    assert dtype == long
    return Tensor(rows)


def zeros(size: int, *, dtype: Any) -> Any:
    return np.zeros(size, dtype)


def from_numpy(array: Any) -> Any:
    return array


class OutOfMemoryError(RuntimeError):
    """As torch.OutOfMemoryError."""
