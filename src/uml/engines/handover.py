"""What the parent tells a worker at its start, and what a worker tells when it gives up.

Down: one JSON line on the worker's standard input, with the plan, the endpoint and its key. Up: one
line on standard error, in front of everything that reads a dead worker's log.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from uml.core.engine import Endpoint, Launch
from uml.core.errors import IllegalInstruction, LoadFailed, UmlError
from uml.core.install import Install
from uml.core.model import Format, Model, ModelInfo, Quantization, Role
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement, SamplerFile

VERSION: Final = 1
FAILURE: Final = "uml-worker-failure: "
SIGILL = 4
_PROGRESS: Final = re.compile(r"^loaded (\d{1,9}) of (\d{1,9}) modules$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Handover:
    """A plan and where to serve it."""

    plan: LoadPlan
    endpoint: Endpoint


def launch(
    engine: str, plan: LoadPlan, endpoint: Endpoint, environment: Mapping[str, str], install: Install | None = None
) -> Launch:
    """The command for a worker of ours that runs `engine`; the key goes by standard input.

    install: whose interpreter runs it; None, and one that is shared, for the one that this program runs in.
    """
    return Launch(
        argv=(*worker(install), "--engine", engine),
        environment=dict(environment),
        stdin=to_line(plan, endpoint),
        reads=(install.folder,) if install and not install.shared else (),
    )


def launch_host(place: str, plan: LoadPlan, endpoint: Endpoint, environment: Mapping[str, str]) -> Launch:
    """The command for a worker of ours around a `Host` of a plug-in: `package.module:Class`, called without arguments.

    Its package must be importable where this program runs; a sandbox lets the worker read the folder it is in.
    """
    package = find_spec(place.partition(":")[0].partition(".")[0])
    folders = (package.submodule_search_locations or ()) if package else ()
    return Launch(
        argv=(*worker(), "--engine", place),
        environment=dict(environment),
        stdin=to_line(plan, endpoint),
        reads=tuple(Path(folder).parent for folder in folders),
    )


def worker(install: Install | None = None) -> tuple[str, ...]:
    """The words that start a worker of ours in the environment of an install.

    Another environment has no `uml` and must not see what lies beside ours: `-I` keeps PYTHONPATH out too.
    """
    if install is None or install.shared:
        return sys.executable, "-m", "uml.worker"
    return str(install.python), "-I", str(Path(__file__).parents[1] / "worker" / "alone.py")


def to_line(plan: LoadPlan, endpoint: Endpoint) -> bytes:
    """The line: only what a child needs, and options only where they differ from the default.

    What only planning asks a model for (its shape, its parameters) it has not: that is decided.
    """
    info = plan.model.info
    document = {
        "version": VERSION,
        "endpoint": {
            "key": endpoint.key,
            "socket": str(endpoint.socket) if endpoint.socket else None,
            "host": endpoint.host,
            "port": endpoint.port,
        },
        "engine": plan.engine,
        "model": {
            "id": plan.model.id,
            "path": str(info.path),
            "format": info.format.value,
            "role": info.role.value,
            "files": [str(file) for file in info.files],
            "size_bytes": info.size_bytes,
            "architecture": info.architecture,
            "context_length": info.context_length,
            "quantization": info.quantization.method if info.quantization else None,
            # Texts can be a whole template or licence; no engine reads them from here.
            "metadata": {key: value for key, value in info.metadata.items() if not isinstance(value, str)},
        },
        "options": plan.options.changed(),
        "placement": {
            "device_bytes": dict(plan.placement.device_bytes),
            "gpu_layers": plan.placement.gpu_layers,
            "layers": plan.placement.layers,
        },
        "total_bytes": plan.footprint.total_bytes,
        "samplers": [[sampler.name, str(sampler.path), sampler.plugin] for sampler in plan.samplers],
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Handover:
    """The line read back. Raises LoadFailed when it is not one of ours, BadOption for options that we do not know.

    The parent is the same program, so there is nothing to be lenient about. It is another version of it where the
    package was renewed beneath a server that runs: its workers are of the new one.
    """
    try:
        document = json.loads(line)
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']}, expected {VERSION}")
        return _handover(document)
    except (ValueError, KeyError, TypeError) as error:
        reason = (
            f"what the server told the worker cannot be read ({type(error).__name__}: {error}); the program was "
            "changed since the server began, which has to be started anew"
        )
        raise LoadFailed("the model", reason) from error


def _handover(document: Mapping[str, Any]) -> Handover:
    model, endpoint, placement = document["model"], document["endpoint"], document["placement"]
    info = ModelInfo(
        path=Path(model["path"]),
        format=Format(model["format"]),
        role=Role(model["role"]),
        confidence=1.0,
        reason="handed over",
        size_bytes=model["size_bytes"],
        files=tuple(Path(file) for file in model["files"]),
        architecture=model["architecture"],
        context_length=model["context_length"],
        quantization=Quantization(method, method) if (method := model["quantization"]) else None,
        metadata=model["metadata"],
    )
    return Handover(
        plan=LoadPlan(
            model=Model(id=model["id"], info=info),
            engine=document["engine"],
            options=LoadOptions.parse(document["options"]),
            footprint=Footprint(weight_bytes=document["total_bytes"], kv_bytes=0, compute_bytes=0),
            placement=Placement(**placement),
            samplers=tuple(SamplerFile(name, Path(path), plugin) for name, path, plugin in document["samplers"]),
        ),
        endpoint=Endpoint(
            key=endpoint["key"],
            socket=Path(endpoint["socket"]) if endpoint["socket"] else None,
            host=endpoint["host"],
            port=endpoint["port"],
        ),
    )


def progress_line(done: int, of: int) -> str:
    """How far a load is, as the line that a worker writes where that is seen nowhere else: weights go to a GPU."""
    return f"loaded {done} of {of} modules\n"


def progress_in(log: str) -> float:
    """What the last progress line of a log says, 0 to 1; 0 where there is none."""
    told = [(int(found[1]), int(found[2])) for found in _PROGRESS.finditer(log)]
    done, of = told[-1] if told else (0, 0)
    return min(1.0, done / of) if of else 0.0


def failure_line(error: UmlError) -> str:
    """A typed failure as the line that a worker writes before it ends."""
    return FAILURE + json.dumps({"error": error.as_dict()["error"]}) + "\n"


def failure_in(log: str) -> UmlError | None:
    """The last failure line of a log as the error that was written; None where there is none."""
    _, found, rest = log.rpartition(FAILURE)
    if not found:
        return None
    try:
        body: dict[str, Any] = json.loads(rest.partition("\n")[0])["error"]
        kind = next((kind for kind in _kinds(UmlError) if kind.code == body["code"]), LoadFailed)
        error = kind.__new__(kind)
        UmlError.__init__(error, body["message"], param=body["param"], **body.get("details", {}))
    except (ValueError, KeyError, TypeError):
        return None  # a line cut short by a crash is no evidence
    return error


def _kinds(root: type[UmlError]) -> Iterator[type[UmlError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


def cause_of_exit(plan: LoadPlan, exit_code: int | None) -> UmlError | None:
    """What a signal alone says; of a SIGKILL only the parent knows whether it was the kernel, for want of memory."""
    if exit_code == -SIGILL:
        return IllegalInstruction(
            plan.model.id,
            "the processor met an instruction it does not have (SIGILL); "
            "the engine was built for another machine: `uml doctor` tells which instruction sets it uses",
            exit_code=exit_code,
        )
    return None
