"""Packs matrices and tells what became of them, as one JSON object. Run by an interpreter that has PyTorch:

    python packing.py SOURCES

SOURCES: the folder that holds `uml`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def main() -> dict[str, Any]:
    import torch

    from uml.engines.transformers import packed

    torch.manual_seed(0)
    told: dict[str, Any] = {"helps": packed.helps(torch.bfloat16), "float32": packed.helps(torch.float32)}
    if not told["helps"]:
        return told

    def at_once(work: Callable[[], int]) -> Future[int]:
        done: Future[int] = Future()
        done.set_result(work())
        return done

    def linear(rows: int, columns: int, mean: float, *, bias: bool) -> torch.nn.Linear:
        made = torch.nn.Linear(columns, rows, bias=bias)
        torch.nn.init.normal_(made.weight, std=mean)
        return made.to(torch.bfloat16).requires_grad_(False)

    layers = {
        "plain": linear(10_000, 896, 0.02, bias=False),  # more than one part
        "with a bias": linear(512, 896, 0.02, bias=True),
        "small": linear(64, 64, 0.02, bias=False),
        "faint": linear(512, 896, 1e-6, bias=False),
        "huge": linear(512, 896, 1e6, bias=False),
    }
    inputs = torch.randn(64, 896).to(torch.bfloat16)
    with torch.inference_mode():
        before = {name: layer(inputs[:, : layer.in_features]).float() for name, layer in layers.items()}
        packed.Packing(torch.nn.ModuleDict(layers), at_once, 2).wait()
        for name, layer in layers.items():
            mine = inputs[:, : layer.in_features]
            after = layer(mine)
            told[name] = {
                "packed": bool(layer.weight.isnan().all()),
                "off": float((after.float() - before[name]).abs().max() / before[name].abs().max()),
                "alone": all(torch.equal(layer(mine[:count]), after[:count]) for count in (1, 2, 7, 8, 33)),
                "shape": list(layer.weight.shape),
                "type": str(after.dtype),
            }
    return told


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    json.dump(main(), sys.stdout)
