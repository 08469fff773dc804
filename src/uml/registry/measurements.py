"""What loads really took, kept by model, engine build and options: the next estimate of the same is what was measured.

A load that differs from a measured one in its context, cache types or batches only is corrected by it: weights,
process and vocabulary do not depend on those, and are taken over; cache and compute buffers are not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from uml.core.model import ModelInfo
from uml.core.options import OPTIONS, LoadOptions
from uml.core.plan import Taken
from uml.planning.refine import Figures, Known, fingerprint
from uml.registry.codec import CodecError, from_json, to_json
from uml.registry.store import Store

log = logging.getLogger(__name__)

KEPT_LIMIT: Final = 2000
"""Loads that are remembered, of about 800 bytes each; the oldest go first."""
KEPT_A_MODEL: Final = 64
"""Of one model, the newest are looked at."""

MATTERS: Final = frozenset(option.name for option in OPTIONS if option.memory) | {
    *("mmap", "mlock", "direct_io", "split_mode", "tensor_split", "main_gpu", "override_tensor", "override_kv"),
    *("mmproj_offload", "image_max_tokens", "control_vector", "draft_device", "draft_max", "spec_type", "pooling"),
    "extra_flags",
}
"""Options on which the memory of a load may depend."""
VARIES: Final = frozenset({"ctx", "cache_type_k", "cache_type_v", "batch", "ubatch"})
"""Those of them on which only cache and compute buffers depend."""


@dataclass(frozen=True, slots=True)
class Load:
    """What was loaded, and how. identity: see `identity`; build: of the engine, as it tells it."""

    identity: str
    engine: str
    build: str
    options: LoadOptions


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured load. at_s: seconds since 1970; predicted_bytes: what its plan had said."""

    at_s: float
    predicted_bytes: int
    taken: Taken
    figures: Figures


def identity(info: ModelInfo, companions: Mapping[str, ModelInfo]) -> str:
    """The same for the same model with the same files beside it, wherever the model lies."""
    beside = sorted((path, fingerprint(one)) for path, one in companions.items())
    said = fingerprint(info)
    return hashlib.sha256(json.dumps([said, beside]).encode()).hexdigest()[:32] if beside else said


class Measurements:
    """The table, in the registry's database. May be used from any thread; its owner's lock is held around every call.

    Raises SetupError where the database cannot be used.
    """

    def __init__(self, store: Store, lock: threading.RLock) -> None:
        self._store = store
        self._lock = lock

    def keep(self, load: Load, found: Measurement) -> None:
        """Remember one load, in place of what was known of the same; the oldest beyond the limit are forgotten."""
        key = _row(load)
        newest = "SELECT rowid FROM measurements ORDER BY at DESC LIMIT ?"
        oldest = f"DELETE FROM measurements WHERE rowid NOT IN ({newest})"  # noqa: S608 - both are ours
        with self._lock:
            self._store.change(
                ("INSERT OR REPLACE INTO measurements VALUES (?, ?, ?, ?, ?, ?)", (*key, to_json(found), found.at_s)),
                (oldest, (KEPT_LIMIT,)),
            )

    def grown(self, load: Load) -> int:
        """Bytes that use has added to loads like this one; 0 where there was none."""
        same = "SELECT found FROM measurements WHERE identity = ? AND engine = ? AND build = ? AND options = ?"
        with self._lock:
            rows = self._store.select(same, *_row(load))
        return max((found.taken.grown_bytes for (text,) in rows if (found := _read(text))), default=0)

    def known(self, identity: str, builds: Mapping[str, str]) -> Known:
        """What loads of this model took with these builds, by engine; read now, so that a lookup only looks it up."""
        query = "SELECT engine, build, options, found FROM measurements WHERE identity = ? ORDER BY at DESC LIMIT ?"
        with self._lock:
            rows = self._store.select(query, identity, KEPT_A_MODEL)
        mine = [(engine, key, found) for engine, build, key, found in rows if builds.get(engine) == build]
        return _Table([(engine, key, _read(found)) for engine, key, found in mine])


class _Table:
    """Measured loads of one model."""

    def __init__(self, rows: Sequence[tuple[str, str, Measurement | None]]) -> None:
        self._exact = {(engine, key): found for engine, key, found in rows if found}
        self._near: dict[tuple[str, str], list[tuple[Mapping[str, Any], Measurement]]] = {}
        for (engine, key), found in self._exact.items():
            # Parts that were only shared out by the estimate say nothing of another load.
            if found.taken.buffers:
                options = json.loads(key)
                self._near.setdefault((engine, _fixed(options)), []).append((options, found))

    def __call__(self, engine: str, options: LoadOptions) -> Figures | None:
        """The figures of this load, or of the nearest one that lets it be corrected."""
        if not self._exact:
            return None
        if same := self._exact.get((engine, _key(options))):
            return replace(same.figures, source=f"the same load took this on {_day(same)}")
        values = _mattering(options)
        near = self._near.get((engine, _fixed(values)))
        if not near:
            return None
        return _corrected(min(near, key=lambda one: _distance(one[0], values))[1])


def _corrected(found: Measurement) -> Figures:
    """What a load of other context, cache types or batches tells of this one."""
    told = found.figures
    # Cache and compute buffers are reckoned anew; a quarter of the latter is the most that rules were off.
    open_bytes = (told.compute_bytes or 0) // 4
    return Figures(
        method="corrected",
        weight_bytes=told.weight_bytes,
        other_bytes=told.other_bytes,
        mapped_bytes=told.mapped_bytes,
        below_bytes=told.below_bytes + open_bytes,
        above_bytes=told.above_bytes + open_bytes,
        source=f"weights and process as in the load of {_day(found)} with another context, cache or batch",
    )


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """How unlike two loads are: doublings of the context, and 0.1 for anything else that differs."""
    differs: int = sum(one[name] != other[name] for name in VARIES)
    doublings: float = math.log2(max(1, one["ctx"]) / max(1, other["ctx"]))
    return abs(doublings) + differs / 10


def _day(found: Measurement) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(found.at_s))


def _read(text: str) -> Measurement | None:
    """A row; None for one that another version wrote in a way that we do not read: it will be measured again."""
    try:
        found = from_json(Measurement, text)
    except CodecError as error:
        log.info("a measured load is not read: %s", error)
        return None
    return found


def _row(load: Load) -> tuple[str, str, str, str]:
    return load.identity, load.engine, load.build, _key(load.options)


def _mattering(options: LoadOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in sorted(MATTERS)}


def _key(options: LoadOptions) -> str:
    return json.dumps(_mattering(options))


def _fixed(options: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in options.items() if name not in VARIES})
