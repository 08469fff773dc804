"""As little of torch as ExLlama's callers need."""

from __future__ import annotations

from typing import Any

long = "long"


class Tensor:
    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows
        self.shape = (len(rows), len(rows[0]))

    def __getitem__(self, index: int) -> list[int]:
        return self.rows[index]


def tensor(rows: list[list[int]], *, dtype: Any) -> Tensor:
    assert dtype == long
    return Tensor(rows)


class OutOfMemoryError(RuntimeError):
    """As torch.OutOfMemoryError."""
