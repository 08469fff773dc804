"""What our own endpoints answer, for the OpenAPI page: made when somebody asks for it, and never at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from uml.core.machine import Machine
from uml.core.model import ModelInfo
from uml.core.plan import WorkerStatus
from uml.generation.capabilities import Ability, Said
from uml.planning import Ranked
from uml.plugins.load import Plugin
from uml.registry.entries import ScanReport
from uml.registry.forgetting import Target
from uml.runtime.scheduling.queue import Place
from uml.runtime.scheduling.wishes import Absent

REFERENCE: Final = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A registered model; `state` is `unloaded`, `missing`, or its worker's.

    `engine` is null where nothing here runs it; then `needs` says what would, else `reason` why this one. `profile` has
    the load options that are saved for it.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    aliases: list[str]
    path: str
    format: str
    role: str
    architecture: str
    quantization: str
    parameters: int | None
    size: int
    context_length: int | None
    engine: str | None
    reason: str
    state: str
    needs: str | None
    profile: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelList:
    """Every registered model."""

    object: Literal["list"]
    data: list[ModelEntry]


@dataclass(frozen=True, slots=True)
class CapabilityMatrix:
    """What a model can do on an engine: the one that has it loaded, else the one that would run it, and `reason` why.

    `engines` has all that could, best first. `installed` is false where even the best is not; the matrix is then what
    it would be, and empty where there is none at all (`engine` is null).
    """

    model: str
    engine: str | None
    installed: bool
    reason: str
    engines: list[Ranked]
    abilities: dict[str, Ability]
    parameters: dict[str, Said]
    options: dict[str, bool]


@dataclass(frozen=True, slots=True)
class Status:
    """Workers, who waits, and models that were pinned or are preloaded and are not there."""

    workers: list[WorkerStatus]
    queue: list[Place]
    absent: list[Absent]


@dataclass(frozen=True, slots=True)
class Log:
    """The last lines that a model's engine wrote."""

    model: str
    lines: list[str]


@dataclass(frozen=True, slots=True)
class Unloaded:
    """Ids of the models that were loaded."""

    unloaded: list[str]


@dataclass(frozen=True, slots=True)
class Unpinned:
    """Whether the model was to be kept."""

    model: str
    was_kept: bool


@dataclass(frozen=True, slots=True)
class Unaliased:
    """The name that was taken back."""

    alias: str


@dataclass(frozen=True, slots=True)
class Total:
    """Bytes: the range, and the likely figure in it."""

    low: int
    likely: int
    high: int


@dataclass(frozen=True, slots=True)
class InMemory:
    """Bytes of memory: of its own, and pages of the mapped file, which the system takes back before it runs out."""

    own: int
    mapped: int


@dataclass(frozen=True, slots=True)
class Resident:
    """What is resident in memory before the first use and after it; what is on GPUs is not in it."""

    loaded: InMemory
    used: InMemory


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes that a load takes, and where they go.

    `method` is `header`, `dry run`, `measured` or `corrected`, and `source` says what that went by. Of the weights,
    `mapped_bytes` are pages of the file, which the system takes back before it runs out. `other_parts` says of the part
    `other` what it is for, as far as that is known: `output`, `process`, `checkpoints`, `prompt_cache`, `mmproj`,
    `lora`, `draft_model`. `resident` is null where it is not known.

    `engine` is null where nothing here runs the model; then `needs` says what would, and the figures are for that:
    `fits` says whether there is a device for it.
    """

    model: str
    engine: str | None
    needs: str | None
    options: dict[str, Any]
    total: Total
    parts: dict[str, int]
    other_parts: dict[str, int]
    method: str
    source: str
    mapped_bytes: int
    resident: Resident | None
    fits: bool
    placement: dict[str, Any]
    reason: str
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Live:
    """The server answers."""

    status: Literal["ok"]


@dataclass(frozen=True, slots=True)
class Ready:
    """The server takes requests; `workers` counts them by state."""

    status: Literal["ok"]
    workers: dict[str, int]
    queued: int


@dataclass(frozen=True, slots=True)
class PluginList:
    """Every plug-in that is installed; `state` is `ready`, or `failed` or `hung` with `says` telling why.

    `adds` has by hook the names of what came by it.
    """

    plugins: list[Plugin]


@dataclass(frozen=True, slots=True)
class Version:
    """This program."""

    name: str
    version: str


_ANSWERS: Final[Mapping[tuple[str, str], Any]] = {
    ("get", "/v1/models"): ModelList,
    ("get", "/v1/models/status"): Status,
    ("get", "/v1/models/{name}"): ModelEntry,
    ("get", "/v1/models/{name}/inspect"): ModelInfo,
    ("get", "/v1/models/{name}/capabilities"): CapabilityMatrix,
    ("get", "/v1/models/{name}/log"): Log,
    ("post", "/v1/models/load"): WorkerStatus,
    ("post", "/v1/models/unload"): Unloaded,
    ("post", "/v1/models/pin"): WorkerStatus,
    ("post", "/v1/models/unpin"): Unpinned,
    ("post", "/v1/models/estimate"): Estimate,
    ("post", "/v1/models/scan"): ScanReport,
    ("post", "/v1/models/add"): ModelEntry,
    ("post", "/v1/models/inspect"): ModelInfo,
    ("post", "/v1/models/alias"): ModelEntry,
    ("post", "/v1/models/unalias"): Unaliased,
    ("post", "/v1/models/forget"): Target,
    ("get", "/v1/plugins"): PluginList,
    ("get", "/v1/system/resources"): Machine,
    ("get", "/health/live"): Live,
    ("get", "/health/ready"): Ready,
    ("get", "/version"): Version,
}

_MORE: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("get", "/v1/system/resources"): {
        "workers": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "Bytes by model"}
    },
}
"""What a reply has beside the noun that it is made of."""


def describe(schema: dict[str, Any]) -> None:
    """Put the answers into an OpenAPI document."""
    from pydantic import TypeAdapter

    parts = schema["components"]["schemas"]
    for (method, path), kind in _ANSWERS.items():
        made = TypeAdapter(kind).json_schema(mode="serialization", ref_template=REFERENCE)
        parts |= made.pop("$defs", {})
        more = _MORE.get((method, path))
        if more is None:
            parts[kind.__name__] = made
            made = {"$ref": REFERENCE.format(model=kind.__name__)}
        else:
            made["properties"] |= more
        schema["paths"][path][method]["responses"]["200"]["content"]["application/json"] = {"schema": made}
    load = schema["paths"]["/v1/models/load"]["post"]["responses"]["200"]["content"]
    load["text/event-stream"] = {
        "schema": {"type": "string", "description": 'With `"stream": true`: `progress` events, then `ready` or `error`'}
    }
    schema["paths"]["/metrics"]["get"]["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
