"""refine(footprint, figures) -> Footprint: what was told of a load beats what its header lets us reckon.

Planning stays pure and asks nobody: it is given a lookup (`Known`) into figures that were found beforehand,
off the event loop, by a dry run of the engine or by a worker that was loaded so before.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from uml.core.model import Model, ModelInfo
from uml.core.options import LoadOptions
from uml.core.plan import Buffer, Footprint, LoadPlan
from uml.planning.estimate import COMPANIONS

Method = Literal["dry run", "measured", "corrected"]
"""`corrected`: by a measured load of the same model that was not quite the same."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Bytes of one load by part, as somebody told them who knows; None: not told, the header's figure stands.

    Parts are those of `Footprint`. below_bytes, above_bytes: how far the truth may lie to either side of their sum.
    source: what they go by, as a sentence.
    """

    method: Method
    weight_bytes: int | None = None
    kv_bytes: int | None = None
    compute_bytes: int | None = None
    other_bytes: int | None = None
    mapped_bytes: int | None = None
    below_bytes: int = 0
    above_bytes: int = 0
    source: str = ""


class Known(Protocol):
    """Figures of one model. It looks into a table and returns at once: it is asked on the event loop.

    Where there are several for the same load, the measured ones beat those of a dry run.
    """

    def __call__(self, engine: str, options: LoadOptions) -> Figures | None:
        """What is known of a load by this engine with these resolved options; None for nothing."""
        ...


def refine(footprint: Footprint, figures: Figures | None) -> Footprint:
    """The footprint with the parts that are known put in, and its range made as narrow as they allow."""
    if figures is None:
        return footprint
    found = replace(
        footprint,
        weight_bytes=_or(figures.weight_bytes, footprint.weight_bytes),
        kv_bytes=_or(figures.kv_bytes, footprint.kv_bytes),
        compute_bytes=_or(figures.compute_bytes, footprint.compute_bytes),
        other_bytes=_or(figures.other_bytes, footprint.other_bytes),
        mapped_bytes=_or(figures.mapped_bytes, footprint.mapped_bytes),
        method=figures.method,
        source=figures.source,
    )
    if figures.other_bytes is not None:
        # What a load took besides was measured in one piece; what goes along is a part of it all the same.
        along = {name: count for name, count in footprint.other_parts.items() if name in COMPANIONS}
        found = replace(found, other_parts=along)
    if footprint.buffers:
        own = (found.weight_bytes - found.mapped_bytes) - (footprint.weight_bytes - footprint.mapped_bytes)
        more = own + found.kv_bytes - footprint.kv_bytes
        found = replace(
            found,
            buffers=_buffers(footprint, found),
            loaded_bytes=max(0, footprint.loaded_bytes + more),
            used_bytes=max(0, footprint.used_bytes + more + found.compute_bytes - footprint.compute_bytes),
        )
    total = found.total_bytes
    return replace(found, low_bytes=max(0, total - figures.below_bytes), high_bytes=total + figures.above_bytes)


def _buffers(before: Footprint, found: Footprint) -> tuple[Buffer, ...]:
    """What the engine is going to say, with parts that are known by now; all of it is in memory, none on a GPU.

    A mapped span reaches from the first to the last weight that stays where it is: it stays the header's. So does
    what a projector or a draft model keeps and computes in: figures are of the model alone.
    """
    kept = [one for one in before.buffers if one.part == "other" or (one.part == "weights" and one.kind != "copy")]
    copies = _sum(before, "weights", "copy")
    if any(one.kind == "mapped" for one in before.buffers):
        copies = found.weight_bytes - found.mapped_bytes
    cached = found.kv_bytes + _sum(before, "kv_cache") - before.kv_bytes
    computed = found.compute_bytes + _sum(before, "compute") - before.compute_bytes
    new = [Buffer("cpu", "weights", copies, "copy"), Buffer("cpu", "kv_cache", cached)]
    new.append(Buffer("cpu", "compute", computed))
    return (*kept, *(one for one in new if one.bytes > 0))


def _sum(footprint: Footprint, part: str, kind: str = "own") -> int:
    return sum(one.bytes for one in footprint.buffers if (one.part, one.kind) == (part, kind))


def _or(told: int | None, reckoned: int) -> int:
    return reckoned if told is None else told


def first_of(*lookups: Known) -> Known:
    """What the first lookup knows that knows anything: name them best first."""

    def known(engine: str, options: LoadOptions) -> Figures | None:
        return next((found for lookup in lookups if (found := lookup(engine, options)) is not None), None)

    return known


def together(best: Known, other: Known) -> Known:
    """What the best knows, and of the parts that it does not tell what the other does."""

    def known(engine: str, options: LoadOptions) -> Figures | None:
        told = best(engine, options)
        if told is not None and told.kv_bytes is not None and told.compute_bytes is not None:
            return told
        rest = other(engine, options)
        if told is None or rest is None:
            return told or rest
        return replace(
            rest,
            method=told.method,
            weight_bytes=_either(told.weight_bytes, rest.weight_bytes),
            kv_bytes=_either(told.kv_bytes, rest.kv_bytes),
            compute_bytes=_either(told.compute_bytes, rest.compute_bytes),
            other_bytes=_either(told.other_bytes, rest.other_bytes),
            mapped_bytes=_either(told.mapped_bytes, rest.mapped_bytes),
            # What the best was unsure of, the other has told.
            below_bytes=min(told.below_bytes, rest.below_bytes),
            above_bytes=min(told.above_bytes, rest.above_bytes),
            source=f"{told.source}; cache and buffers by {rest.method}" if told.source else rest.source,
        )

    return known


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


@runtime_checkable
class Foretelling(Protocol):
    """An engine that can be asked what a load would take, without loading."""

    def foretell(self, plan: LoadPlan) -> bool:
        """Ask, unless the answer is known; may take a second. True when there is a new answer."""
        ...

    def foretold(self, model: Model) -> Known:
        """The answers so far for one model."""
        ...


def fingerprint(info: ModelInfo) -> str:
    """The same for the same model under any path: its header's scalars and its weights by type."""
    said = [info.format.value, info.size_bytes, sorted(info.metadata.items()), sorted(info.weight_bytes.items())]
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:32]
