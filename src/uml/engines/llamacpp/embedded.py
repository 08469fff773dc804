"""The child's side: llama.cpp's own server inside this process, by way of xllamacpp.

Imported by `uml.worker` only. Its constructor holds the interpreter lock for the whole load, and
some failures end the process; both are why it has a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

SET_LOG_LEVEL: Final = "_Z30common_log_set_verbosity_tholdi"
"""`void common_log_set_verbosity_thold(int)` of common/log.h, as the library exports it."""


def serve(order: Mapping[str, Any]) -> object:
    """Load the model and listen as an order of `order.for_library` says; serves until the object given back goes.

    Raises BadOption, or LoadFailed when the engine gives up. Its reasons are in the log, on standard error.
    """
    import xllamacpp

    params = build(xllamacpp, order["attributes"])
    params.model_alias = {order["model"]}
    set_level = _log_level(xllamacpp)
    if set_level is None:
        # One that cannot be told to be quiet later is quiet from the start: it would log every request.
        params.verbosity = order["quiet"]
    try:
        server = xllamacpp.Server(params)
        if set_level is not None:
            set_level(order["quiet"])
        return server
    except (RuntimeError, ValueError) as error:
        # Our nouns are imported where a load has failed, and take no time from one that has not.
        from uml.core.errors import LoadFailed

        raise LoadFailed(order["model"], str(error)) from error


def _log_level(library: Any) -> Callable[[int], object] | None:
    """How this library is told its log level while it runs; None where it does not say how."""
    import ctypes

    try:
        # The file is loaded already: this is a handle on it, not a second copy.
        set_level = ctypes.CDLL(library.xllamacpp.__file__)[SET_LOG_LEVEL]
    except (AttributeError, OSError):
        return None
    set_level.argtypes, set_level.restype = [ctypes.c_int], None
    return set_level


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
