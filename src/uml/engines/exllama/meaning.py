"""What a plan means to ExLlama, where one option alone does not say it. Read by both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.errors import BadOption
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan

PAGE: Final = 256
"""Tokens of a page of the cache: its size is a multiple (`constants.PAGE_SIZE` in both libraries)."""
FULL: Final = 16
BITS: Final[Mapping[str, int]] = {
    "auto": FULL,
    "f16": FULL,
    "q8_0": 8,
    "q5_1": 5,
    "q5_0": 5,
    "q4_1": 4,
    "q4_0": 4,
}
"""Bits of an element of the cache, by the names of `cache_type_k` and `cache_type_v`."""
V2_BITS: Final = (FULL, 8, 6, 4)
_GIB: Final = 1 << 30


def check(plan: LoadPlan) -> None:
    """What can be seen to be wrong before a process is started for it. Raises BadOption."""
    keys, values = cache_bits(plan.options)
    if (keys == FULL) != (values == FULL):
        raise BadOption("cache_type_v", plan.options.cache_type_v, "16 bits for both keys and values, or for neither")
    if plan.engine == "exllamav2":
        if keys != values or keys not in V2_BITS:
            expected = "f16, q8_0 or q4_0 (or extra_flags k_bits=6 and v_bits=6), the same for keys and values"
            raise BadOption("cache_type_k", plan.options.cache_type_k, expected)
        if plan.options.lora and len(gpus(plan)) > 1 and tensor_parallel(plan):
            raise BadOption("lora", list(plan.options.lora), "none beside split_mode row or tensor")
    if plan.options.spec_type not in ("auto", "none", "draft", "ngram-simple"):
        raise BadOption("spec_type", plan.options.spec_type, "auto, none, draft or ngram-simple with ExLlama")
    if plan.options.spec_type == "draft" and not plan.options.draft_model:
        raise BadOption("spec_type", "draft", "a draft_model beside it")


def cache_bits(options: LoadOptions) -> tuple[int, int]:
    """Bits of keys and of values: 16, or 2 to 8. Raises BadOption.

    `k_bits=3` and `v_bits=3` in `extra_flags` name what has no type of its own.
    """
    found = []
    for option in ("cache_type_k", "cache_type_v"):
        name = getattr(options, option)
        if name not in BITS:
            raise BadOption(option, name, f"one of {', '.join(BITS)} with ExLlama")
        found.append(BITS[name])
    keys, values = found
    for flag in options.extra_flags:
        name, _, text = flag.partition("=")
        if name not in ("k_bits", "v_bits") or text not in tuple("2345678"):
            raise BadOption("extra_flags", flag, "k_bits=2 to k_bits=8, v_bits=2 to v_bits=8")
        keys, values = (int(text), values) if name == "k_bits" else (keys, int(text))
    return keys, values


def cache_tokens(options: LoadOptions) -> int:
    """Tokens of the whole cache: every request has the context to itself, in whole pages."""
    return -(-options.ctx // PAGE) * PAGE * max(1, options.parallel)


def chunk(options: LoadOptions) -> int:
    """Tokens of a prompt that are read at once, in whole pages."""
    return max(PAGE, -(-options.batch // PAGE) * PAGE)


def gpus(plan: LoadPlan) -> tuple[str, ...]:
    """The GPUs of a plan, in order; the worker sees these and no others."""
    chosen = plan.placement.device_bytes if plan.options.device == "auto" else plan.options.device.split(",")
    return tuple(name for part in chosen if (name := part.strip()) not in ("", "cpu"))


def gib_on_each(plan: LoadPlan) -> list[float]:
    """GiB that may be used of each GPU, by `tensor_split` where it is given; empty for as much as is free."""
    split = plan.options.tensor_split
    if not split:
        return []
    total, ratios = sum(plan.placement.device_bytes.values()), sum(split)
    # A tenth more than planned: layers are whole, and come to lie a little unevenly.
    return [round(1.1 * total * part / ratios / _GIB, 3) for part in split]


def tensor_parallel(plan: LoadPlan) -> bool:
    """Whether each layer is spread over the GPUs, and not layer after layer."""
    return plan.options.split_mode in ("row", "tensor") and len(gpus(plan)) > 1


def scaled(adapter: str) -> tuple[str, float]:
    """`PATH` or `PATH=SCALE`."""
    path, sign, scale = adapter.rpartition("=")
    if sign and path:
        try:
            return path, float(scale)
        except ValueError:
            pass
    return adapter, 1.0
