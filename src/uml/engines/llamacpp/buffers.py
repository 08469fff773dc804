"""buffers(plan, log) -> Buffer, ...: the memory that llama.cpp says it has made. The texts are those of b11549.

    load_tensors:   CPU_Mapped model buffer size =   500.79 MiB
    load_tensors:   CPU_REPACK model buffer size =   312.00 MiB
    llama_kv_cache:      CUDA0 KV buffer size =    96.00 MiB
    llama_memory_recurrent:    CPU RS buffer size =    12.02 MiB
    llama_context:        CPU  output buffer size =     2.32 MiB
    sched_reserve:        CPU compute buffer size =    39.27 MiB

They are information, which a worker writes while it loads and not afterwards (`order.TELLING`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from uml.core.plan import Buffer, LoadPlan
from uml.engines.llamacpp.meaning import gpus

LINE: Final = re.compile(
    r"(?P<device>[A-Za-z]+)(?P<number>\d*)(?:_(?P<suffix>\w+))?"
    r" +(?P<what>model|KV|RS|compute|output|LoRA) buffer size = +(?P<mib>\d+\.\d\d) MiB"
)
CONTEXT: Final = re.compile(r"llama_context: constructing llama_context")

PARTS: Final = {"model": "weights", "KV": "kv_cache", "RS": "kv_cache", "compute": "compute"}
"""What llama.cpp calls it -> part of a footprint; the others are `other`."""
KINDS: Final = {"Mapped": "mapped", "REPACK": "copy"}
GPUS: Final = {"CUDA": "cuda", "ROCM": "rocm", "VULKAN": "vulkan", "METAL": "metal", "MTL": "metal"}
"""Beginning of a device's name -> our kind; everything else lies in memory."""


def buffers(plan: LoadPlan, log: str) -> tuple[Buffer, ...]:
    """Every buffer of the model, its draft and its projector, to the 0.01 MiB that the log gives.

    A context that lays its computation out anew says so again, and its last word counts; each context has its own.
    """
    seen = gpus(plan)
    found: dict[tuple[object, ...], Buffer] = {}
    context = 0
    for number, line in enumerate(log.splitlines()):
        if CONTEXT.search(line):
            context += 1
        elif match := LINE.search(line):
            made = _buffer(match, seen)
            # Only a compute buffer is ever replaced: several caches of one kind stand beside each other.
            key = (context, match["device"], match["number"], match["suffix"]) if made.part == "compute" else (number,)
            found[key] = made
    return tuple(_joined(found.values()))


def _buffer(match: re.Match[str], seen: tuple[str, ...]) -> Buffer:
    family, suffix = match["device"].upper(), match["suffix"] or ""
    # `CUDA_Host` and `CUDA0_Host` are memory that a GPU can reach.
    in_memory = family not in GPUS or suffix == "Host"
    kind = "copy" if family == "AMX" else KINDS.get(suffix, "own")
    device = "cpu" if in_memory else _device(GPUS[family], int(match["number"] or 0), seen)
    return Buffer(device, PARTS.get(match["what"], "other"), round(float(match["mib"]) * (1 << 20)), kind)


def _device(kind: str, number: int, seen: tuple[str, ...]) -> str:
    """Our id of the engine's nth device: it counts those that it was shown."""
    mine = [device for device in seen if device.startswith(f"{kind}:")]
    return mine[number] if number < len(mine) else f"{kind}:{number}"


def _joined(found: Iterable[Buffer]) -> list[Buffer]:
    """One buffer a device, part and kind."""
    sums: dict[tuple[str, str, str], int] = {}
    for one in found:
        key = (one.device, one.part, one.kind)
        sums[key] = sums.get(key, 0) + one.bytes
    return [Buffer(device, part, count, kind) for (device, part, kind), count in sums.items() if count]
