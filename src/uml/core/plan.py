"""What it takes to load a model, decided before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from uml.core.model import Model
from uml.core.options import LoadOptions


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes a model needs once loaded, with these options, by this engine.

    low_bytes, high_bytes: the range in which the truth lies; the parts add up to the likely figure.
    method: how it was found: `header`, `dry run`, `measured`.
    """

    weight_bytes: int
    kv_bytes: int
    compute_bytes: int
    other_bytes: int = 0
    """Output buffers, projector, adapters, draft model, the process itself."""
    low_bytes: int = 0
    high_bytes: int = 0
    method: str = "header"
    mapped_bytes: int = 0
    """Of the weights, pages of the mapped file: counted, but the system takes them back before it runs out."""
    source: str = ""
    """What the method went by, as a sentence; empty where it says all."""
    buffers: tuple[Buffer, ...] = ()
    """What the engine is going to say that it has made, mapped pages and copies apart; empty where unknown."""
    loaded_bytes: int = 0
    """Likely resident in memory of its own after loading, before the first use: no mapped pages. 0: not known."""
    used_bytes: int = 0
    """The same after use: what it computes in has been touched, states to go back to are kept. 0: not known."""
    mapped_with_use: bool = False
    """Mapped pages are read when they are first needed; else with the load."""
    other_parts: Mapping[str, int] = field(default_factory=dict)
    """`other_bytes` as far as it is known what for: `output`, `process`, `checkpoints`, `prompt_cache`, and what goes
    along with the model: `mmproj`, `lora`, `draft_model`."""

    @property
    def resident(self) -> Mapping[str, Mapping[str, int]] | None:
        """Likely resident in memory, GPUs apart: `loaded`, before the first use, and `used`, after it. None: not known.

        Each with `own`, memory of its own, and `mapped`, pages of the file that the system takes back when it is short.
        """
        if not self.loaded_bytes:
            return None
        at_load = 0 if self.mapped_with_use else self.mapped_bytes
        return {
            "loaded": {"own": self.loaded_bytes, "mapped": at_load},
            "used": {"own": self.used_bytes, "mapped": self.mapped_bytes},
        }

    @property
    def total_bytes(self) -> int:
        """The likely figure."""
        return self.weight_bytes + self.kv_bytes + self.compute_bytes + self.other_bytes

    @property
    def parts(self) -> Mapping[str, int]:
        """The likely figure by part."""
        return {
            "weights": self.weight_bytes,
            "kv_cache": self.kv_bytes,
            "compute": self.compute_bytes,
            "other": self.other_bytes,
        }


@dataclass(frozen=True, slots=True)
class Buffer:
    """A block of memory that an engine says it has made.

    device: id of a `core.machine.Device`. part: of `Footprint.parts`.
    kind: `own`; `mapped`, pages of the model's file; `copy`, weights re-ordered, whose bytes in the file are not
        read again.
    """

    device: str
    part: str
    bytes: int
    kind: str = "own"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a worker really took: by the kernel's count in memory, by the driver's on GPUs, by its engine's word.

    resident_bytes: of its process in memory when it was ready, everything counted.
    file_bytes: of those, pages of the model's files that are mapped.
    peak_bytes: the most that was resident while it loaded; 0 where the system does not tell.
    grown_bytes: what requests added to that beyond its compute buffers, in this load or an earlier one of the same; 0
        while nothing has.
    gpu_bytes: of its process on each GPU, by device id. buffers: what the engine told; empty where it tells nothing.
    """

    resident_bytes: int
    file_bytes: int = 0
    peak_bytes: int = 0
    grown_bytes: int = 0
    gpu_bytes: Mapping[str, int] = field(default_factory=dict)
    buffers: tuple[Buffer, ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the bytes go: device id -> bytes; `gpu_layers` of `layers` are on GPUs.

    gpu_split: layers on each GPU in the order of `device_bytes`, where there are several; else empty.
    expert_layers: the first so many layers keep their experts in memory, whatever else of them is on a GPU.
    """

    device_bytes: Mapping[str, int]
    gpu_layers: int = 0
    layers: int = 0
    reason: str = ""
    gpu_split: tuple[int, ...] = ()
    expert_layers: int = 0

    @property
    def device(self) -> str:
        """The device that holds most of it."""
        return max(self.device_bytes, key=self.device_bytes.__getitem__, default="cpu")


@dataclass(frozen=True, slots=True)
class Conversion:
    """A model that no engine reads as it is. source: as it was asked for. place: the file that stands in for it.

    needed: whether that file is yet to be made.
    """

    source: Model
    place: Path
    needed: bool


@dataclass(frozen=True, slots=True)
class SamplerFile:
    """A sampler that a plug-in brings: a Python file with a function `sampler`, which workers load by its path.

    name: by which requests ask for it. plugin: who brings it; filled in when the plug-in is loaded.
    """

    name: str
    path: Path
    plugin: str = ""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One model, one engine, options without anything left to guess, and where it goes.

    evict: ids of idle models that must leave first.
    warnings: options that the engine does not honour, and what else a user should know.
    choice: why this engine; `reason` begins with it and ends with the place.
    asked_options: as they came, before planning decided what they leave open: for an engine that decides it better.
    conversion: where `model` stands in for another, which is made into it first.
    samplers: of plug-ins, for engines that sample with our chain.
    """

    model: Model
    engine: str
    options: LoadOptions
    footprint: Footprint
    placement: Placement
    reason: str = ""
    evict: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    choice: str = ""
    conversion: Conversion | None = None
    samplers: tuple[SamplerFile, ...] = ()
    asked_options: LoadOptions = field(default_factory=LoadOptions)

    @property
    def converts(self) -> bool:
        """Whether what is loaded is yet to be made."""
        return self.conversion is not None and self.conversion.needed

    @property
    def asked(self) -> Model:
        """The model as it was asked for."""
        return self.conversion.source if self.conversion else self.model


Stage = Literal["queued", "evicting", "converting", "starting", "loading", "ready", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is. `percent` is 0 to 100 and never falls within one load.

    queue_position: 0 while it does not wait. waits_for, held_by, reason: what it waits for, the models that are in its
    way, and both in words; see `runtime.scheduling.queue.Place`.
    """

    model: str
    stage: Stage
    bytes: int = 0
    total_bytes: int = 0
    percent: float = 0.0
    seconds: float = 0.0
    queue_position: int = 0
    waits_for: str = ""
    held_by: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker as `/v1/models/status` and `uml ps` show it.

    state: `converting`, `starting`, `loading`, `ready`, `stopping`, `asleep`, `failed`.
    memory_bytes: resident now; 0 while it is not known.
    estimated_bytes: what its plan said; method: how that was found, `Footprint.method`.
    measured_bytes: what it really needs once in use, to be compared with the estimate; 0 while it is not known.
    peak_bytes: the most that was resident while it loaded; 0 where the system does not tell.
    reason: why it was placed so.
    idle_s: seconds since the last request ended; 0 while one is in flight.
    restored_tokens: of conversations of an earlier worker, read back when this one was loaded.
    not_saved: why its conversations end with it; empty where they are saved.
    """

    model: str
    engine: str
    state: str
    pid: int | None
    options: Mapping[str, object] = field(default_factory=dict)
    device: str = "cpu"
    memory_bytes: int = 0
    estimated_bytes: int = 0
    context_length: int = 0
    in_flight: int = 0
    queued: int = 0
    slots: int = 1
    idle_s: float = 0.0
    load_s: float = 0.0
    requests: int = 0
    restored_tokens: int = 0
    not_saved: str = ""
    progress: float = 0.0
    error: Mapping[str, object] | None = None
    kept: str = ""
    """`pinned`, `preloaded`, or empty."""
    unloads_in_s: float | None = None
    """Seconds until it is unloaded for being idle; None: not while things are as they are."""
    warnings: tuple[str, ...] = ()
    """What the plan said, and what was made less because memory ran out."""
    retry_in_s: float | None = None
    """Of one that failed: seconds until a request may load it again; None where a person must."""
    measured_bytes: int = 0
    peak_bytes: int = 0
    method: str = ""
    reason: str = ""
    choice: str = ""
    """Why this engine."""
