"""What to change when nothing fits: changes of options and smaller files, each tried by the arithmetic of the plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

from uml.core.errors import gib
from uml.core.model import Format, Model, ModelInfo, TensorGroup
from uml.core.options import LoadOptions
from uml.planning.cache import CACHE_BLOCKS, PADDING
from uml.planning.choose import SMALLEST_AUTO_CTX

Change = dict[str, Any]
Fits = Callable[[LoadOptions], bool]

MOST_MODELS: Final = 3
_ALONE: Final[Change] = {"parallel": 1}
_KINDS: Final = (
    ("q8_0", "Q8_0", 8.5, 8.5),
    ("q6_k", "Q6_K", 6.57, 8.5),
    ("q5_k_m", "Q5_K", 5.71, 6.3),
    ("q4_k_m", "Q4_K", 4.9, 5.6),
    ("q3_k_m", "Q3_K", 4.0, 5.0),
    ("q2_k", "Q2_K", 3.16, 4.6),
)
"""Kinds of file that need no importance matrix, the type of most of their weights, and bits a weight: those of Llama
3.1 8B by llama.cpp's tools/quantize/README.md, and where rows are no multiple of 256 (`tensor_type_fallback`)."""
_TABLE_BITS: Final = (6.57, 8.5)
"""The same of the table of tokens and the output, which are kept finer."""
_WORTH: Final = 0.9
"""A file that is not this much smaller is not worth making."""
_QUANTIZATION: Final = re.compile(
    r"[-_. ]*\b(ud-)?(i?q\d+(_[a-z0-9]+)*|tq\d_\d|[bf]f?(16|32)|mxfp4(_moe)?|imat|i1|gguf|\d+-of-\d+)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Made:
    """A smaller file that `uml quantize` makes. kind: as it calls it; bytes: what a load of it would need, about."""

    model: str
    kind: str
    bytes: int

    @property
    def command(self) -> str:
        """What makes it."""
        return f"uml quantize {self.model} --to {self.kind}"


@dataclass(frozen=True, slots=True)
class Remedy:
    """What would make it fit.

    changes: of the options as they were asked for; each alone is enough, the gentlest first.
    models: smaller files of the same model that fit with the very options, the largest first; id -> bytes.
    unpin: models that are kept in memory, and without which it would fit as it is.
    made: a smaller file that could be made of it and would fit, where there is none; None for none.
    limit: the setting without which it would fit as it is; empty for none.
    """

    changes: tuple[Change, ...] = ()
    models: tuple[tuple[str, int], ...] = ()
    unpin: tuple[str, ...] = ()
    made: Made | None = None
    limit: str = ""

    @property
    def sentence(self) -> str:
        """The same for a person."""
        words = [" ".join(f"{key}={_word(value)}" for key, value in change.items()) for change in self.changes]
        parts = [f"it fits with {' or '.join(words)}"] if words else []
        if self.models:
            named = " or ".join(f"{id} ({gib(count)})" for id, count in self.models)
            parts.append(f"{'so does' if parts else 'what fits is'} the same model in a smaller file: {named}")
        if self.unpin:
            named = " and ".join(f"uml unpin {id}" for id in self.unpin)
            parts.append(f"{'or ' if parts else ''}let go what is pinned: {named}")
        if self.made:
            parts.append(f"{'or ' if parts else ''}make it smaller: {self.made.command} ({gib(self.made.bytes)})")
        more = f"raise {self.limit}" if self.limit else "a machine with more memory"
        if not parts:
            return f"no smaller context would do; use a smaller quantization, or {more}"
        return "; ".join((*parts, f"or {more}") if self.limit else parts)


def changes(info: ModelInfo, asked: LoadOptions, fits: Fits) -> tuple[Change, ...]:
    """Changes with which a load that was refused has a place; empty where options do not help.

    Single ones first. Where none does, all of them together, and of those only what is needed.
    fits: whether options, with what they leave open decided, have a place.
    """

    def helps(change: Change) -> bool:
        return fits(replace(asked, **change))

    tried = list(_single(info, asked))
    found = [change for change in tried if helps(change)]
    if _ALONE in found:
        found[found.index(_ALONE)] = {"parallel": _most(asked.parallel - 1, lambda n: helps({"parallel": n}))}
    if asked.gpu_layers > 0 and (layers := _most(asked.gpu_layers - 1, lambda n: helps({"gpu_layers": n}))):
        found.append({"gpu_layers": layers})
    useful = min(asked.ctx or SMALLEST_AUTO_CTX, SMALLEST_AUTO_CTX)
    ctx = _largest_ctx(asked, helps)
    if ctx >= useful and ctx:
        found.append({"ctx": ctx})
    if found:
        return tuple(found)
    every: Change = {key: value for change in tried for key, value in change.items()}
    least = {**every, **({"ctx": useful} if asked.ctx > useful else {})}
    if least and helps(least):
        return (_needed(least, helps),)
    # A context too small to talk in is the last advice.
    return ({"ctx": ctx},) if ctx else ()


def _single(info: ModelInfo, asked: LoadOptions) -> Iterator[Change]:
    """What could be tried alone, the gentlest first."""
    if asked.repack and info.format is Format.GGUF:
        yield {"repack": False}
    if asked.parallel > 1:
        yield _ALONE
    if small := _coarser(info, asked):
        yield small
    if asked.cpu_moe_layers >= 0 and info.shape and info.shape.experts:
        yield {"cpu_moe_layers": -1}
    if asked.tensor_split:
        yield {"tensor_split": ()}
    if asked.split_mode == "none":
        yield {"split_mode": "layer"}
    if asked.device != "auto":
        yield {"device": "auto"}
    if asked.gpu_layers > 0:
        yield {"gpu_layers": -1}
    if asked.draft_model:
        yield {"draft_model": ""}


def _coarser(info: ModelInfo, asked: LoadOptions) -> Change:
    """Eight bits for keys and values that were asked for in more."""
    shape, block = info.shape, CACHE_BLOCKS["q8_0"][0]
    if shape is None or shape.key_length % block or shape.value_length % block:
        return {}
    plain = {"f32", "f16", "bf16"}
    found: Change = {}
    if asked.cache_type_k in plain:
        found["cache_type_k"] = "q8_0"
    if asked.cache_type_v in plain and asked.flash_attention != "off":
        found["cache_type_v"] = "q8_0"
    return found


def _largest_ctx(asked: LoadOptions, helps: Callable[[Change], bool]) -> int:
    """The largest smaller context that fits, in steps of llama.cpp's padding; 0 for none."""
    limit = (asked.ctx or SMALLEST_AUTO_CTX) - 1
    return PADDING * _most(limit // PADDING, lambda blocks: helps({"ctx": blocks * PADDING}))


def _most(high: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 1 to `high` that fits, where smaller ones fit too; 0 for none."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _needed(change: Change, helps: Callable[[Change], bool]) -> Change:
    """The change without those parts that it can do without."""
    for key in change:
        less = {name: value for name, value in change.items() if name != key}
        if less and helps(less):
            return _needed(less, helps)
    return change


def smaller_files(model: Model, others: Sequence[Model]) -> list[Model]:
    """Other files of the same model with fewer bytes of weights, the largest first.

    The same: architecture, shape and name agree but for the quantization; a tune of the same base has another name.
    """
    kin = [
        other
        for other in others
        if other.present
        and other.id != model.id
        and other.info.format is model.info.format
        and other.info.role is model.info.role
        and other.info.size_bytes < model.info.size_bytes
        and _same(model, other)
    ]
    return sorted(kin, key=lambda other: (-other.info.size_bytes, other.id))


def smaller_kinds(model: Model) -> Iterator[tuple[str, Model]]:
    """What `uml quantize` could make of it: kind, and the model as it would be; the largest first."""
    info = model.info
    if info.format is not Format.GGUF or info.shape is None or not info.shape.tensors or model.source == "net":
        return
    held, bare = sum(info.weight_bytes.values()), replace(info.shape, tensors=())
    for kind, stored_as, *bits in _KINDS:
        size = sum(_bytes_as(group, bits) for group in info.shape.tensors)
        if size <= held * _WORTH:
            smaller = replace(info, weight_bytes={stored_as: size}, size_bytes=size, shape=bare)
            yield kind, replace(model, info=smaller)


def _bytes_as(group: TensorGroup, bits: Sequence[float]) -> int:
    """What these tensors take, with so many bits a weight where rows are multiples of 256, and elsewhere."""
    if len(group.dims) < 2:
        return group.count * group.each_bytes
    even = group.dims[0] % 256 == 0
    a_weight = bits[0] if even else bits[1]
    if group.name in ("token_embd.weight", "output.weight"):
        a_weight = max(a_weight, _TABLE_BITS[0] if even else _TABLE_BITS[1])
    return int(group.count * prod(group.dims) * a_weight / 8)


def _same(one: Model, other: Model) -> bool:
    if one.info.architecture != other.info.architecture or _numbers(one.info) != _numbers(other.info):
        return False
    return not _names(one).isdisjoint(_names(other))


def _numbers(info: ModelInfo) -> tuple[object, ...]:
    shape = info.shape
    if shape is None:
        return (None,)
    return (shape.layers, shape.embedding, shape.feed_forward, shape.heads, shape.experts, shape.vocabulary)


def _names(model: Model) -> set[str]:
    """What it is called, without its quantization."""
    named = (model.info.name, model.info.path.stem, model.id)
    bare = (re.sub(r"[-_. ]+", "-", _QUANTIZATION.sub("", name)).strip("-").lower() for name in named)
    return {name for name in bare if name}


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value not in ("", ()) else "none"


def as_data(remedy: Remedy) -> tuple[list[Mapping[str, object]], list[Mapping[str, object]]]:
    """Changes and models as JSON values."""
    return [dict(change) for change in remedy.changes], [{"model": id, "needed": count} for id, count in remedy.models]
