"""The parameter `lora` for engines that do not look at it closely enough, or know adapters by name only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uml.core.engine import adapter_name
from uml.core.errors import BadRequest


def check_loaded(wanted: Sequence[dict[str, Any]], loaded: int) -> None:
    """Raise BadRequest for an adapter that is not there: llama.cpp passes over it without a word."""
    for place, adapter in enumerate(wanted):
        if adapter["id"] >= loaded:
            there = f"0 to {loaded - 1}, the adapters that the model was loaded with" if loaded else "none"
            more = "" if loaded else "; the model was loaded without adapters, which the option lora brings"
            where = f"lora[{place}].id"
            raise BadRequest(f"{where} is {adapter['id']}; expected {there}{more}", param=where)


def name_of_one(wanted: Sequence[dict[str, Any]] | None, loaded: Sequence[float], engine: str) -> str:
    """What an engine is given that lays one adapter over an answer, as strongly as it was made; empty for none.

    wanted: by the request; where it says nothing, it gets what the load put on. loaded: the scale of each, by its
    place. engine: as people call it. Raises BadRequest for several at once, and for another scale than 0 and 1.
    """
    scales = dict(enumerate(loaded)) if wanted is None else {}
    for place, one in enumerate(wanted or ()):
        scales[one["id"]] = scale = one.get("scale", 1.0)
        if scale not in (0, 1):
            where = f"lora[{place}].scale"
            raise BadRequest(f"{where} is {scale}; {engine} takes an adapter as it is: 1, or 0 for off", param=where)
    active = [id for id, scale in scales.items() if scale]
    if len(active) > 1:
        raise BadRequest(f"{engine} takes one adapter a request; give the others scale 0", param="lora")
    return adapter_name(active[0]) if active else ""
