"""override_tensor: which tensors somebody puts where, by patterns on their names.

The first pattern that is found in a name decides (`llama_model_loader::create_tensor` of build b11549), and beats
`cpu_moe_layers` and the layers' own place. What it moves takes its bytes along; the cache stays with its layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from uml.core.errors import BadOption
from uml.core.model import TensorGroup
from uml.core.options import LoadOptions

CPU: Final = "cpu"
FAMILIES: Final[Mapping[str, str]] = {
    "CUDA": "cuda",
    "ROCm": "rocm",
    "Vulkan": "vulkan",
    "Metal": "metal",
    "MTL": "metal",
}
"""How llama.cpp's devices are called before their number -> our kind of device."""

MAX_REPEATS: Final = 4
"""`*`, `+`, `?` and `{}` in one pattern: names are short, but what these may match grows with the power of them."""
_DEVICE: Final = re.compile(rf"({'|'.join(FAMILIES)}|{'|'.join(sorted(set(FAMILIES.values())))}):?(\d{{0,3}})")
_REPEAT: Final = re.compile(r"(?<!\\)(?<!\()(?:[*+?]|\{\d*,?\d*\})\??")
_REPEATED_GROUP: Final = re.compile(r"(?<!\\)\)(?:[*+]|\{)")
_FOREIGN: Final = re.compile(r"\(\?(?![:=!])|\\[AZ]|\[\[:")
"""What Python and the engine's ECMAScript do not read alike."""


@dataclass(frozen=True, slots=True)
class Override:
    """device: `cpu`, or our id of a GPU: the engine's `CUDA1` is `cuda:1`."""

    pattern: re.Pattern[str]
    device: str


def overrides(options: LoadOptions) -> tuple[Override, ...]:
    """What the option says, in its order. Raises BadOption."""
    return _read(options.override_tensor)


@lru_cache(maxsize=64)
def _read(texts: tuple[str, ...]) -> tuple[Override, ...]:
    return tuple(map(_override, texts))


def _override(text: str) -> Override:
    pattern, equals, device = text.partition("=")
    if not (pattern and equals and device) or "," in text:
        raise BadOption("override_tensor", text, "PATTERN=DEVICE without commas")
    if _FOREIGN.search(pattern):
        raise BadOption("override_tensor", text, "a pattern without named groups, flags, look-behind and [[:classes:]]")
    if _REPEATED_GROUP.search(pattern) or len(_REPEAT.findall(pattern)) > MAX_REPEATS:
        raise BadOption("override_tensor", text, f"a pattern with at most {MAX_REPEATS} of * + ? {{}}, none of a group")
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise BadOption("override_tensor", text, f"a regular expression before the = ({error})") from error
    return Override(compiled, _device_id(text, device))


def _device_id(text: str, name: str) -> str:
    if name in ("CPU", CPU):
        return CPU
    match = _DEVICE.fullmatch(name)
    if match is None:
        raise BadOption("override_tensor", text, "CPU or a GPU behind the =, as CUDA0")
    return f"{FAMILIES.get(match[1], match[1])}:{int(match[2] or 0)}"


def engine_name(device: str) -> str:
    """What llama.cpp calls a device of ours: `cuda:1` is CUDA1; the one GPU of a Mac has no number."""
    kind, _, number = device.partition(":")
    family = next((family for family, ours in FAMILIES.items() if ours == kind), kind.upper())
    return family if kind in (CPU, "metal") else f"{family}{number}"


def check_devices(options: LoadOptions, gpus: Sequence[str]) -> None:
    """Raise BadOption where a pattern names a GPU that the load does not use.

    gpus: ids of those it may use.
    """
    for text, override in zip(options.override_tensor, overrides(options), strict=True):
        if override.device not in (CPU, *gpus):
            known = ", ".join(["CPU", *map(engine_name, gpus)])
            reason = "" if gpus else ": the load uses no GPU"
            raise BadOption("override_tensor", text, f"a device among {known}{reason}")


def moved(tensors: tuple[TensorGroup, ...], options: LoadOptions) -> Mapping[tuple[str, int], str]:
    """Name of the group and layer (-1 outside the layers) of each tensor that is moved -> id of its device."""
    return _moved(tensors, options.override_tensor) if options.override_tensor else {}


@lru_cache(maxsize=16)
def _moved(tensors: tuple[TensorGroup, ...], texts: tuple[str, ...]) -> Mapping[tuple[str, int], str]:
    found = {}
    for group in tensors:
        for layer in group.layers or (-1,):
            name = group.name if layer < 0 else f"blk.{layer}.{group.name}"
            if device := next((one.device for one in _read(texts) if one.pattern.search(name)), ""):
                found[group.name, layer] = device
    return found
