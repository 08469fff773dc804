"""Our own endpoints: models, workers, the machine, health. FastAPI, with documented and strict bodies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from uml import __version__
from uml.core.duration import EXPECTED as DURATION
from uml.core.errors import BadRequest, NotFound
from uml.core.jsonable import jsonable
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.gateway import adapters, capabilities, engines, faults, names, openapi, plugins, profiles, workbench
from uml.gateway.bodies import Strict
from uml.gateway.docs import page
from uml.gateway.replies import Load, json_reply
from uml.gateway.wire import stay
from uml.hardware import snapshot
from uml.house import House
from uml.telemetry.metrics import CONTENT_TYPE, Metrics

State = Literal["unloaded", "converting", "starting", "loading", "ready", "stopping", "asleep", "failed", "missing"]

Options = Annotated[
    dict[str, Any], Field(default_factory=dict, description="Load options by name; `uml load --option help` lists them")
]


KeepAlive = Annotated[
    float | str | None, Field(description=f"How long it stays without a request: {DURATION}. Left out: as before")
]


class LoadBody(Strict):
    """What to load, and how."""

    model: str = Field(description="Id, alias or path")
    options: Options
    keep_alive: KeepAlive = None
    stream: bool = Field(False, description="Tell the progress with server-sent events: progress, ready, error")


class PinBody(Strict):
    """What to keep, and how it is loaded where it is not."""

    model: str = Field(description="Id, alias or path")
    options: Options


class UnpinBody(Strict):
    """What to let go."""

    model: str = Field(description="Id or alias")


class UnloadBody(Strict):
    """Which models to unload."""

    model: str | None = Field(None, description="Id or alias")
    all: bool = Field(False, description="Every model that is loaded")


class EstimateBody(Strict):
    """What to estimate."""

    model: str = Field(description="Id, alias or path")
    options: Options


class ScanBody(Strict):
    """Where to look for models."""

    folder: str | None = Field(
        None,
        description="A folder of the server's machine, looked through at every start too. Left out: all known folders",
    )


class AddBody(Strict):
    """What to register."""

    path: str = Field(description="A file or folder of the server's machine")


class InspectBody(Strict):
    """What to look at."""

    model: str = Field(description="Id, alias or path")


def build(house: House, metrics: Metrics) -> FastAPI:
    """The application for everything but the hot paths."""
    app = FastAPI(
        title="Universal Model Loader", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    faults.answer(app)
    _models(app, house)
    _actions(app, house)
    names.add(app, house)
    capabilities.add(app, house)
    plugins.add(app, house)
    adapters.add(app, house)
    profiles.add(app, house)
    # After the fixed paths: a name may hold slashes, and would swallow them.
    _one_model(app, house)
    engines.add(app, house)
    workbench.add(app, house)
    _server(app, house, metrics)
    openapi.extend(app)
    return app


# --- models -----------------------------------------------------------------------------------


def _models(app: FastAPI, house: House) -> None:
    @app.get("/v1/models", tags=["models"], summary="Every registered model, loaded or not")
    async def models(state: Annotated[State | None, Query(description="Only models in this state")] = None) -> Response:
        found = await asyncio.to_thread(_described, house)
        if state is not None:
            found = [model for model in found if model["state"] == state]
        return json_reply({"object": "list", "data": found})

    @app.get("/v1/models/status", tags=["workers"], summary="Workers, who waits, and what is to be there and is not")
    async def status() -> Response:
        supervisor = house.supervisor
        told = {"workers": supervisor.status(), "queue": supervisor.queue(), "absent": supervisor.absent()}
        return json_reply(jsonable(told))


def _one_model(app: FastAPI, house: House) -> None:
    @app.get("/v1/models/{name:path}/inspect", tags=["models"], summary="What the bytes of a model say")
    async def inspect_named(name: str) -> Response:
        return json_reply(jsonable(await asyncio.to_thread(house.library.inspect, name)))

    @app.get("/v1/models/{name:path}/log", tags=["workers"], summary="The last lines that a model's engine wrote")
    async def log_lines(name: str, lines: Annotated[int, Query(ge=1, le=10_000)] = 200) -> Response:
        model = house.library.registry.resolve(name)
        text = await asyncio.to_thread(house.supervisor.log_tail, model.id, lines)
        return json_reply({"model": model.id, "lines": text.splitlines()})

    @app.get("/v1/models/{name:path}", tags=["models"], summary="One model by id or alias")
    async def model(name: str) -> Response:
        if not name:
            raise NotFound("there is nothing at /v1/models/; did you mean /v1/models?")
        found = house.library.registry.resolve(name)
        return json_reply(await asyncio.to_thread(house.library.describe, found, house.worker(found.id)))


def _described(house: House) -> list[dict[str, Any]]:
    workers = {worker.model: worker for worker in house.supervisor.status()}
    return [house.library.describe(model, workers.get(model.id)) for model in house.library.registry.models()]


def _actions(app: FastAPI, house: House) -> None:
    @app.post("/v1/models/load", tags=["workers"], summary="Load a model; closing the connection cancels")
    async def load(body: LoadBody) -> Response:
        keep_alive_s = stay(body.keep_alive)
        model, options = await asyncio.to_thread(_wanted, house, body)
        await house.renew(model)
        return Load(house, model, options, keep_alive_s, stream=body.stream)

    @app.post("/v1/models/pin", tags=["workers"], summary="Load a model and keep it: it is never evicted")
    async def pin(body: PinBody) -> Response:
        model, options = await asyncio.to_thread(_wanted, house, body)
        return Load(house, model, options, None, stream=False, pin=True)

    @app.post("/v1/models/unpin", tags=["workers"], summary="Let a model go when it is idle or in the way")
    async def unpin(body: UnpinBody) -> Response:
        model = house.library.registry.resolve(body.model)
        return json_reply({"model": model.id, "was_kept": await house.unpin(model)})

    @app.post("/v1/models/unload", tags=["workers"], summary="Unload one model, or all")
    async def unload(body: UnloadBody) -> Response:
        if (body.model is None) != body.all:
            raise BadRequest('give "model" or "all": true, one of them', param="model")
        wanted = None if body.model is None else [house.library.registry.resolve(body.model).id]
        return json_reply({"unloaded": list(await house.unload(wanted))})

    @app.post("/v1/models/estimate", tags=["models"], summary="Memory that a load takes; nothing is started")
    async def estimate(body: EstimateBody) -> Response:
        return json_reply(await asyncio.to_thread(house.library.estimate, body.model, body.options))

    @app.post("/v1/models/scan", tags=["models"], summary="Add a folder, and look through it")
    async def scan(body: ScanBody) -> Response:
        registry, others = house.library.registry, house.library.settings.model_folders
        if body.folder is None:
            return json_reply(jsonable(await asyncio.to_thread(registry.rescan, others)))
        return json_reply(jsonable(await asyncio.to_thread(registry.scan, _absolute(body.folder, "folder"))))

    @app.post("/v1/models/add", tags=["models"], summary="Register the model at a path")
    async def add(body: AddBody) -> Response:
        model = await asyncio.to_thread(house.library.registry.add, _absolute(body.path, "path"))
        return json_reply(await asyncio.to_thread(house.library.describe, model, house.worker(model.id)))

    @app.post("/v1/models/inspect", tags=["models"], summary="What a model, or any path, is; nothing is added")
    async def inspect(body: InspectBody) -> Response:
        return json_reply(jsonable(await asyncio.to_thread(house.library.inspect, body.model)))


def _absolute(text: str, field: str) -> Path:
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise BadRequest(f"{field} is {text!r}; there is no such user", param=field) from None
    if not path.is_absolute():
        # The server's working folder is not the client's.
        raise BadRequest(f"{field} is {text!r}; expected an absolute path", param=field)
    return path


def _wanted(house: House, body: LoadBody | PinBody) -> tuple[Model, LoadOptions | None]:
    """Which model, and its checked options over what is usual for it; None where none were given."""
    LoadOptions.parse(body.options)  # before a path is added to the models
    model = house.library.find(body.model)
    return model, house.library.options(model, body.options) if body.options else None


# --- the server -------------------------------------------------------------------------------


def _server(app: FastAPI, house: House, metrics: Metrics) -> None:
    @app.get("/v1/system/resources", tags=["server"], summary="Processor, memory and GPUs as they are now")
    async def resources() -> Response:
        machine = await asyncio.to_thread(snapshot)
        used = {worker.model: worker.memory_bytes for worker in house.supervisor.status()}
        return json_reply({**jsonable(machine), "workers": used})

    @app.get("/health/live", tags=["server"], summary="The server answers; needs no key")
    async def live() -> Response:
        return json_reply({"status": "ok"})

    @app.get("/health/ready", tags=["server"], summary="The server takes requests")
    async def ready() -> Response:
        states = [worker.state for worker in house.supervisor.status()]
        counts = {state: states.count(state) for state in sorted(set(states))}
        return json_reply({"status": "ok", "workers": counts, "queued": len(house.supervisor.queue())})

    @app.get("/metrics", tags=["server"], summary="Figures for Prometheus")
    async def figures() -> Response:
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    @app.get("/version", tags=["server"], summary="The version of this server")
    async def version() -> Response:
        return json_reply({"name": "universal-model-loader", "version": __version__})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(page(app.openapi()), headers={"content-security-policy": policy})

    @app.get("/", include_in_schema=False)
    async def welcome() -> Response:
        return json_reply(
            {
                "name": "universal-model-loader",
                "version": __version__,
                "docs": "/docs",
                "openapi": "/openapi.json",
                "openai_base_url": "/v1",
                "models": "/v1/models",
            }
        )
