"""Models and plans as JSON, for every face alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uml.core.jsonable import jsonable
from uml.core.model import Model
from uml.core.plan import LoadPlan, WorkerStatus
from uml.roster import Choice


def described(
    model: Model, profile: Mapping[str, Any], chosen: Choice, worker: WorkerStatus | None = None
) -> dict[str, Any]:
    """A model as `/v1/models` shows it; see `Library.describe`."""
    info = model.info
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.source,
        "aliases": list(model.aliases),
        "path": str(info.path),
        "format": info.format.value,
        "role": info.role.value,
        "architecture": info.architecture,
        "quantization": info.quantization.label if info.quantization else "",
        "parameters": info.parameters,
        "size": info.size_bytes,
        "context_length": worker.context_length if worker and worker.context_length else info.context_length,
        "engine": chosen.engine,
        "reason": chosen.reason,
        "needs": chosen.needs or None,
        "profile": dict(profile),
        "state": worker.state if worker else ("unloaded" if model.present else "missing"),
    }


def estimated(decided: LoadPlan) -> dict[str, Any]:
    """A plan as `/v1/models/estimate` shows it, of an engine that is here."""
    footprint = decided.footprint
    return {
        "model": decided.model.id,
        "engine": decided.engine,
        "needs": None,
        "options": jsonable(decided.options),
        "total": {
            "low": footprint.low_bytes,
            "likely": footprint.total_bytes,
            "high": footprint.high_bytes,
        },
        "parts": dict(footprint.parts),
        "other_parts": dict(footprint.other_parts),
        "method": footprint.method,
        "source": footprint.source,
        "mapped_bytes": footprint.mapped_bytes,
        "resident": footprint.resident,
        "fits": True,
        "placement": jsonable(decided.placement),
        "reason": decided.reason,
        "warnings": list(decided.warnings),
    }
