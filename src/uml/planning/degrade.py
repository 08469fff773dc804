"""degrade(asked, given, plan, device) -> Less | None: what to ask for when memory ran out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan

SMALLEST_CONTEXT: Final = 512
_STEPS: Final = ("layers", "cache", "context")
_WIDE: Final = ("auto", "f32", "f16", "bf16")


@dataclass(frozen=True, slots=True)
class Less:
    """Options that take less memory, and what is less in words: `ctx is 1024 in place of 2048`."""

    options: LoadOptions
    sentence: str


def degrade(
    asked: LoadOptions, given: LoadOptions, plan: LoadPlan, device: str, honoured: Collection[str]
) -> Less | None:
    """The next step down after this plan ran out of memory on `device`; None where none is allowed, or left.

    Fewer layers on the GPUs first, a quarter of the model at a time, then a cache of q8_0, then half the
    context. `asked.degrade` says how far it may go: `auto` changes only what `asked` left open.
    given: `asked` after the steps that were taken before; the plan was made of it.
    honoured: names of the options that the engine knows; a step with another would change nothing.
    """
    allowed = {
        "auto": _STEPS,
        "none": (),
        "layers": _STEPS[:1],
        "cache": _STEPS[:2],
        "context": _STEPS,
    }[asked.degrade]
    open_only = asked.degrade == "auto"
    had = plan.options
    layers = plan.placement.gpu_layers
    # Layers that leave the GPU go into memory: no help where that is what ran out.
    some = layers and device != "cpu" and not (asked.gpu_layers >= 0 and open_only)
    if "layers" in allowed and some and "gpu_layers" in honoured:
        fewer = max(0, layers - max(1, -(-plan.placement.layers // 4)))
        return _less(given, "gpu_layers", f"{layers}", f"{fewer}", gpu_layers=fewer)
    if "cache" in allowed and {"cache_type_k", "cache_type_v"} <= set(honoured) and had.flash_attention != "off":
        fixed = asked.cache_type_k != "auto" or asked.cache_type_v != "auto"
        if {had.cache_type_k, had.cache_type_v} & set(_WIDE) and not (fixed and open_only):
            was = f"{had.cache_type_k} and {had.cache_type_v}"
            return _less(given, "the cache", was, "q8_0", cache_type_k="q8_0", cache_type_v="q8_0")
    if "context" in allowed and had.ctx > SMALLEST_CONTEXT and "ctx" in honoured and not (asked.ctx and open_only):
        half = max(SMALLEST_CONTEXT, had.ctx // 2)
        return _less(given, "ctx", f"{had.ctx}", f"{half}", ctx=half)
    return None


def _less(given: LoadOptions, what: str, was: str, now: str, **changes: object) -> Less:
    return Less(replace(given, **changes), f"{what} is {now} in place of {was}")  # type: ignore[arg-type]
