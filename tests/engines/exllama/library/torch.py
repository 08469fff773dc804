"""As little of torch as ExLlama's callers need, over numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

long, float = np.int64, np.float32


class Tensor(np.ndarray):
    def float(self) -> Tensor:
        return self.astype(np.float32)

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return np.asarray(self)


def tensor(rows: Any, *, dtype: Any, device: str = "cpu") -> Tensor:
    assert device == "cpu"
    return np.array(rows, dtype).view(Tensor)


class OutOfMemoryError(RuntimeError):
    """As torch.OutOfMemoryError."""
