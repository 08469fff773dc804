"""What a worker of llama.cpp is told: attributes for the library, arguments for the program, one line for either.

Everything is decided here, in the parent, so that the child imports nothing of ours but `embedded`: the nouns
and the table alone would take it longer than the demo model does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from uml.core.engine import Endpoint
from uml.core.plan import LoadPlan
from uml.engines.llamacpp.meaning import Scaled, slots
from uml.engines.llamacpp.rows import Member
from uml.engines.llamacpp.table import arguments as of_options
from uml.engines.llamacpp.table import parameters

WARNINGS: Final = 2
"""Log level: reasons of failures, and no prompts, which begin at 5."""
TELLING: Final = 4
"""Log level while the library loads: what memory it makes (`buffers`), in about 150 lines. A program keeps one
level all its life, and at this one it would write 25 lines for every request: it stays at WARNINGS."""


def for_library(plan: LoadPlan, endpoint: Endpoint) -> bytes:
    """The line for `embedded.serve`."""
    return _line({"model": plan.model.id, "attributes": attributes(plan, endpoint), "quiet": WARNINGS})


def for_program(program: Path, plan: LoadPlan, endpoint: Endpoint) -> bytes:
    """The line for `uml.worker --exec`. The key is kept out of argv, which every user of the machine can read."""
    argv = [str(program), *arguments(plan, endpoint)]
    return _line({"argv": argv, "environment": {"LLAMA_API_KEY": endpoint.key}})


def attributes(plan: LoadPlan, endpoint: Endpoint) -> dict[str, Any]:
    """Attribute path of xllamacpp's `CommonParams` -> JSON value, of a plan and of every worker of ours."""
    every = {
        "model.path": str(plan.model.info.path),
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
        "verbosity": TELLING,
        "n_threads_http": http_threads(plan),
        # The library puts a file's name behind it as it is.
        "slot_save_path": f"{endpoint.sessions}/" if endpoint.sessions else "",
        # Planning has decided what goes where.
        "fit_params": False,
        # What llama-server does by itself and the library does not (common_params_parse_ex in common/arg.cpp).
        "default_template_kwargs": {"preserve_reasoning": "true"},
    }
    return {**{path: _plain(value) for path, value in parameters(plan).items()}, **every}


def arguments(plan: LoadPlan, endpoint: Endpoint) -> list[str]:
    """Everything after the name of `llama-server`; `extra_flags` come last and so have the last word."""
    if endpoint.socket:
        listen = ["--host", str(endpoint.socket)]
    else:
        listen = ["--host", endpoint.host, "--port", str(endpoint.port)]
    sessions = ["--slot-save-path", str(endpoint.sessions)] if endpoint.sessions else []
    return [
        *("--model", str(plan.model.info.path), "--alias", plan.model.id),
        *listen,
        *("--metrics", "--slots", "--no-ui", "--fit", "off", "--log-verbosity", str(WARNINGS)),
        *("--cors-origins", "", "--no-cors-credentials", "--threads-http", str(http_threads(plan))),
        *sessions,
        *of_options(plan),
    ]


def http_threads(plan: LoadPlan) -> int:
    """Threads that answer requests."""
    # Each open connection takes a thread, waiting and idle ones too; with too few, /health waits behind streams.
    return 64 + 2 * slots(plan)


def _plain(value: Any) -> Any:
    """A value as JSON; `embedded` reads it back."""
    if isinstance(value, Member):
        return {"enum": value.enum, "member": value.name}
    if isinstance(value, Scaled):
        return {"path": value.path, "scale": value.scale}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
