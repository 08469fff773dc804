"""What the processor gives a training."""

from __future__ import annotations

import torch

from uml.hardware import snapshot


def threads() -> int:
    """How many this process may use."""
    return snapshot().threads


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it does not, float32 is three times as fast."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16") or able.get("bf16"))
