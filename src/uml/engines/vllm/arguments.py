"""A plan as `vllm serve` is told it. Names of arguments are those of version 0.32 (`vllm/engine/arg_utils.py`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from uml.core.engine import Endpoint
from uml.core.errors import BadOption
from uml.core.model import Role
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.engines.external import gpus, spread
from uml.engines.vllm.adapters import adapters

CACHES: Final[Mapping[str, str]] = {"auto": "auto", "f16": "auto", "bf16": "bfloat16", "q8_0": "fp8"}
"""Types of the cache. Of 8 bits it has FP8; of 16 the model's own, which `f16` leaves to it."""
BESIDES: Final = 3 << 29
"""Bytes on each GPU that no plan counts: contexts of CUDA, and graphs that are recorded."""
LEAST, MOST = 0.05, 0.95


def arguments(plan: LoadPlan, endpoint: Endpoint, totals: Mapping[str, int]) -> list[str]:
    """Everything after `vllm`. totals: bytes of each GPU, by device id. Raises BadOption."""
    options = plan.options
    listen = (
        ["--uds", str(endpoint.socket)] if endpoint.socket else ["--host", endpoint.host, "--port", str(endpoint.port)]
    )
    words = [
        *("serve", str(plan.model.info.path), "--served-model-name", plan.model.id, *listen),
        *("--disable-uvicorn-access-log", "--disable-log-stats", "--disable-fastapi-docs"),
        *("--max-num-seqs", str(max(1, options.parallel))),
        *_cache(options),
        *spread(plan, "--pipeline-parallel-size", "--tensor-parallel-size"),
        *_share(plan, totals),
        *adapters(options),
    ]
    if options.ctx:
        words += ["--max-model-len", str(options.ctx)]
    if plan.asked_options.batch:
        # Without one it takes as many as suit its GPU. Fewer than there are sequences would not let each of them go on.
        words += ["--max-num-batched-tokens", str(max(options.batch, options.parallel))]
    if plan.model.info.role is Role.EMBEDDING:
        words += ["--runner", "pooling"]
    if options.draft_model:
        guessing = {"model": options.draft_model, "num_speculative_tokens": options.draft_max}
        words += ["--speculative-config", json.dumps(guessing)]
    if template := options.chat_template_file or options.chat_template:
        words += ["--chat-template", template]
    if endpoint.socket and can_sleep(plan):
        words += ["--enable-sleep-mode"]
    if not options.cache_prompt:
        words += ["--no-enable-prefix-caching"]
    return words + list(options.extra_flags)


def can_sleep(plan: LoadPlan) -> bool:
    """Whether its server could give its GPUs back and stay: on NVIDIA's, where the user lets it."""
    found = gpus(plan)
    return plan.options.sleep and bool(found) and all(name.startswith("cuda") for name in found)


def visible(plan: LoadPlan) -> dict[str, str]:
    """What lets the program see the GPUs of its plan, and no others."""
    found = gpus(plan)
    name = "HIP_VISIBLE_DEVICES" if found and found[0].startswith("rocm") else "CUDA_VISIBLE_DEVICES"
    return {name: ",".join(gpu.partition(":")[2] or "0" for gpu in found)} if found else {}


def _cache(options: LoadOptions) -> list[str]:
    keys, values = options.cache_type_k, options.cache_type_v
    if keys not in CACHES:
        raise BadOption("cache_type_k", keys, f"one of {', '.join(CACHES)} with vLLM (q8_0 is FP8 there)")
    if CACHES[keys] != CACHES.get(values):
        raise BadOption("cache_type_v", values, f"{keys}, as cache_type_k: vLLM has one type for both")
    return [] if CACHES[keys] == "auto" else ["--kv-cache-dtype", CACHES[keys]]


def _share(plan: LoadPlan, totals: Mapping[str, int]) -> list[str]:
    """As much of each GPU as the plan gives it: by itself it would take nine tenths."""
    shares = [
        (planned + BESIDES) / totals[gpu]
        for gpu, planned in plan.placement.device_bytes.items()
        if gpu != "cpu" and totals.get(gpu)
    ]
    return ["--gpu-memory-utilization", f"{min(MOST, max(LEAST, *shares)):.3f}"] if shares else []
