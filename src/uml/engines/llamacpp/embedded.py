"""The child's side: llama.cpp's own server inside this process, by way of xllamacpp.

Imported by `uml.worker` only. Its constructor holds the interpreter lock for the whole load, and
some failures end the process; both are why it has a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def serve(order: Mapping[str, Any]) -> object:
    """Load the model and listen as an order of `order.for_library` says; serves until the object given back goes.

    Raises BadOption, or LoadFailed when the engine gives up. Its reasons are in the log, on standard error.
    """
    import xllamacpp

    params = build(xllamacpp, order["attributes"])
    params.model_alias = {order["model"]}
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        # Our nouns are imported where a load has failed, and take no time from one that has not.
        from uml.core.errors import LoadFailed

        raise LoadFailed(order["model"], str(error)) from error


def build(library: Any, attributes: Mapping[str, Any]) -> Any:
    """`CommonParams` with these attributes. Raises BadOption for a device that this build lacks."""
    params = library.CommonParams()
    for attribute, value in attributes.items():
        *path, last = attribute.split(".")
        owner = params
        for name in path:
            owner = getattr(owner, name)
        try:
            setattr(owner, last, _native(library, value))
        except ValueError as error:
            option = {"tensor_buft_overrides": "override_tensor", "devices": "draft_device"}.get(last)
            if option is None:
                raise
            from uml.core.errors import BadOption

            known = ", ".join(device["name"] for device in library.get_device_info())
            raise BadOption(option, value, f"a device of this build, {known} ({error})") from error
    return params


def _native(library: Any, value: Any) -> Any:
    """The library's value for a JSON value."""
    match value:
        case {"enum": enum, "member": member}:
            return getattr(getattr(library, enum), member)
        case {"path": path, "scale": scale}:
            return library.CommonAdapterLoraInfo(path, scale)
        case [*items]:
            return [_native(library, item) for item in items]
    return value
