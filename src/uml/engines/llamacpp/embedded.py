"""The child's side: llama.cpp's own server inside this process, by way of xllamacpp.

Imported by `uml.worker` only. Its constructor holds the interpreter lock for the whole load, and
some failures end the process; both are why it has a process of its own.
"""

from __future__ import annotations

from typing import Any, Final

from uml.core.engine import Endpoint
from uml.core.errors import BadOption, LoadFailed
from uml.core.plan import LoadPlan
from uml.engines.llamacpp.checks import check
from uml.engines.llamacpp.meaning import Scaled, slots
from uml.engines.llamacpp.rows import Member
from uml.engines.llamacpp.table import parameters

WARNINGS: Final = 2
"""Log level: reasons of failures, and no prompts, which begin at 5."""


def serve(plan: LoadPlan, endpoint: Endpoint) -> object:
    """Load the model and listen; the server runs until the object that is returned goes.

    Raises BadOption, or LoadFailed when the engine gives up. Its reasons are in the log, on standard error.
    """
    import xllamacpp

    check(plan, external=False)
    params = build(xllamacpp, plan, endpoint)
    if endpoint.socket:
        # A socket that a killed worker left behind is an address in use.
        endpoint.socket.unlink(missing_ok=True)
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise LoadFailed(plan.model.id, str(error)) from error


def build(library: Any, plan: LoadPlan, endpoint: Endpoint) -> Any:
    """`CommonParams` for a plan and an endpoint. Raises BadOption for a buffer type that this build lacks."""
    params = library.CommonParams()
    values = {**parameters(plan), **_server(plan, endpoint)}
    for attribute, value in values.items():
        *path, last = attribute.split(".")
        owner = params
        for name in path:
            owner = getattr(owner, name)
        try:
            setattr(owner, last, _native(library, value))
        except ValueError as error:
            if last != "tensor_buft_overrides":
                raise
            known = ", ".join(device["name"] for device in library.get_device_info())
            raise BadOption("override_tensor", value, f"PATTERN=DEVICE with a device of {known} ({error})") from error
    return params


def _server(plan: LoadPlan, endpoint: Endpoint) -> dict[str, Any]:
    """What every worker of ours has, whatever its plan: where it listens, and who may ask."""
    return {
        "model.path": str(plan.model.info.path),
        "model_alias": {plan.model.id},
        "hostnames": [str(endpoint.socket) if endpoint.socket else endpoint.host],
        "port": 0 if endpoint.socket else endpoint.port,
        "api_keys": [endpoint.key],
        # The library answers every origin with credentials unless told otherwise.
        "cors_origins": "",
        "cors_methods": "",
        "cors_headers": "",
        "cors_credentials": False,
        "ui": False,
        "endpoint_metrics": True,
        "endpoint_slots": True,
        "verbosity": WARNINGS,
        # Each open connection takes a thread, waiting and idle ones too; with too few, /health waits behind streams.
        "n_threads_http": 64 + 2 * slots(plan),
        # Planning has decided what goes where.
        "fit_params": False,
        # What llama-server does by itself and the library does not (common_params_parse_ex in common/arg.cpp).
        "default_template_kwargs": {"preserve_reasoning": "true"},
    }


def _native(library: Any, value: Any) -> Any:
    if isinstance(value, Member):
        return getattr(getattr(library, value.enum), value.name)
    if isinstance(value, Scaled):
        return library.CommonAdapterLoraInfo(value.path, value.scale)
    if isinstance(value, list):
        return [_native(library, item) for item in value]
    return value
