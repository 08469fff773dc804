"""The load option `lora` as `vllm serve` is told it: folders of PEFT, each under the name that a request gives.

What it takes and refuses is that of version 0.32 (`vllm/config/lora.py`, `vllm/lora/peft_helper.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from uml.core.engine import adapter_name
from uml.core.errors import BadOption
from uml.core.options import LoadOptions
from uml.formats.bounded_json import read_object, scalars, text
from uml.planning.adapter_room import at_once, rank_of, suiting
from uml.planning.estimate import path_and_scale

RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` may be; room is made for so much in every layer, before any adapter is read."""
CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
_CONFIG_BYTES: Final = 1 << 20


def adapters(options: LoadOptions) -> list[str]:
    """Its arguments for these; empty where there are none. Raises BadOption, and BadFile for what cannot be read.

    All stay in main memory, and as many on the GPU as may work at a time: one that is not in memory would be read
    again from its folder while requests wait.
    """
    if not options.lora:
        return []
    ranks, modules, on = [], [], []
    for place, entry in enumerate(options.lora):
        path, scale = path_and_scale(entry)
        if scale not in (0, 1):
            expected = "a scale of 1, or 0 for one that works where a request names it: vLLM takes adapters as they are"
            raise BadOption("lora", entry, expected)
        folder = Path(path).expanduser().absolute()
        ranks.append(_rank(entry, folder))
        modules.append(json.dumps({"name": adapter_name(place), "path": str(folder)}))
        on += [entry] if scale else []
    if len(on) > 1:
        expected = "one that works by itself, and the others with =0 for requests that name them: vLLM lays one adapter"
        raise BadOption("lora", on, f"{expected} over an answer")
    rank = suiting(max(ranks), RANKS)
    return [
        *("--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(at_once(options))),
        *("--max-cpu-loras", str(len(modules)), "--lora-modules", *modules),
    ]


def _rank(entry: str, folder: Path) -> int:
    """The greatest rank of an adapter."""
    if not (folder / CONFIG).is_file() or not any((folder / name).is_file() for name in WEIGHTS):
        raise BadOption("lora", entry, f"a folder of PEFT, with {CONFIG} and {WEIGHTS[0]}")
    config: Mapping[str, Any] = read_object(folder / CONFIG, _CONFIG_BYTES)
    kind = text(config, "peft_type") or "LORA"
    if kind != "LORA" or config.get("use_dora"):
        raise BadOption("lora", entry, f"a plain LoRA: vLLM has no {'DoRA' if kind == 'LORA' else kind}")
    rank = rank_of(scalars(config))
    if rank < 1 or rank > RANKS[-1]:
        told = rank if rank > 0 else f"{config.get('r')!r}"
        raise BadOption("lora", entry, f"an adapter of a rank from 1 to {RANKS[-1]}; the rank of this one is {told}")
    return rank
