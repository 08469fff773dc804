"""`/v1/models/{id}/adapters` and `/v1/models/adapters/...`: LoRA adapters that come and go while a model is loaded."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from fastapi import FastAPI, Response
from pydantic import Field

from uml.core.errors import BadRequest, NoRoom
from uml.gateway.bodies import Strict
from uml.gateway.openai import exchange
from uml.gateway.proxy import ANSWER_LIMIT
from uml.gateway.refusal import refusal
from uml.gateway.replies import json_reply
from uml.house import House
from uml.planning.estimate import path_and_scale
from uml.runtime.supervisor import Lease
from uml.runtime.workers.channel import ChannelBroken

_WORKERS: Final = "/lora-adapters"
"""The route of workers, ours and llama.cpp's."""
ADAPTER_FILES: Final = "adapter_"
"""How the names of files begin that are PEFT's own; a training leaves much else beside them."""
Scale = Annotated[float, Field(ge=-100, le=100, description="How strongly it works for requests that do not say")]


class LoadAdapterBody(Strict):
    """Which model gets which adapter."""

    model: str = Field(description="Id or alias; it is loaded where it is not")
    adapter: str = Field(description="A path of the server's machine, or the id of an adapter among the models")
    scale: Scale = 1.0


class ScaleAdapterBody(Strict):
    """Which adapter of a model works how strongly."""

    model: str = Field(description="Id or alias")
    id: int = Field(ge=0, description="Of the adapter, as in the list")
    scale: Scale


class UnloadAdapterBody(Strict):
    """Which adapter a model loses."""

    model: str = Field(description="Id or alias")
    id: int = Field(ge=0, description="Of the adapter, as in the list")


def add(app: FastAPI, house: House) -> None:
    """Put the routes into the application."""

    @app.get(
        "/v1/models/{name:path}/adapters", tags=["workers"], summary="Adapters of a loaded model; `lora` of requests"
    )
    async def adapters(name: str) -> Response:
        model = house.library.registry.resolve(name)
        worker = house.worker(model.id)
        if worker is None or worker.state != "ready":
            return json_reply({"model": model.id, "data": []})
        async with house.supervisor.lease(model, None, 0) as lease:
            return json_reply({"model": model.id, "data": await _listed(lease)})

    @app.post(
        "/v1/models/adapters/load",
        tags=["workers"],
        summary="Give a loaded model one more adapter, until it is unloaded",
    )
    async def load(body: LoadAdapterBody) -> Response:
        path = await asyncio.to_thread(house.library.adapter, body.adapter)
        model = house.library.registry.resolve(body.model)
        async with house.supervisor.lease(model, None, 0) as lease:
            _comes_and_goes(lease)
            made = await _hand_over(lease, path, body.scale)
            return json_reply({"model": model.id, "id": made.get("id"), "data": await _listed(lease)})

    @app.post("/v1/models/adapters/scale", tags=["workers"], summary="How strongly an adapter works")
    async def scale(body: ScaleAdapterBody) -> Response:
        model = house.library.registry.resolve(body.model)
        async with house.supervisor.lease(model, None, 0) as lease:
            there = _known(await _listed(lease), body.id)
            _scales(lease)
            one: dict[str, Any] = {"id": body.id, "scale": body.scale}
            # llama.cpp's server puts out what is not named.
            others = [{"id": other["id"], "scale": other["scale"]} for other in there if other["id"] != body.id]
            await _ask(lease, "POST", [one, *others] if lease.spec.served else one)
            return json_reply({"model": model.id, "data": await _listed(lease)})

    @app.post("/v1/models/adapters/unload", tags=["workers"], summary="Take an adapter; who has it keeps it to the end")
    async def unload(body: UnloadAdapterBody) -> Response:
        model = house.library.registry.resolve(body.model)
        async with house.supervisor.lease(model, None, 0) as lease:
            _comes_and_goes(lease)
            _known(await _listed(lease), body.id)
            await _ask(lease, "POST", {"unload": body.id})
            return json_reply({"model": model.id, "data": await _listed(lease)})


def _comes_and_goes(lease: Lease) -> None:
    if lease.spec.served:
        raise BadRequest(
            f"{lease.spec.title} takes adapters only with a load: load {lease.model.id} with the option lora",
            param="model",
        )


def _scales(lease: Lease) -> None:
    if lease.spec.names_adapters:
        raise BadRequest(
            f"{lease.spec.title} keeps what its load said: load {lease.model.id} with another option lora, PATH or "
            "PATH=0, or give lora in a request",
            param="scale",
        )


def _known(there: list[dict[str, Any]], id: int) -> list[dict[str, Any]]:
    if id not in [one["id"] for one in there]:
        known = ", ".join(f"{one['id']} ({one['name']})" for one in there)
        raise BadRequest(f"there is no adapter {id}; {f'there are {known}' if known else 'none is loaded'}", param="id")
    return there


async def _listed(lease: Lease) -> list[dict[str, Any]]:
    found: list[dict[str, Any]]
    if lease.spec.names_adapters:
        entries = enumerate(map(path_and_scale, lease.plan.options.lora))
        found = [{"id": id, "path": path, "scale": scale} for id, (path, scale) in entries]
    else:
        found = await _ask(lease, "GET")
    return [
        {"id": one["id"], "name": Path(one["path"]).stem, "path": one["path"], "scale": one["scale"]} for one in found
    ]


async def _hand_over(lease: Lease, path: Path, scale: float) -> Mapping[str, Any]:
    """Have a worker load an adapter. Raises what it gives as the reason, and NoRoom."""
    own = lease.channel.endpoint.socket
    if own is None:
        return await exchange(lease, _WORKERS, {"path": str(path), "scale": scale})
    # What a worker may read was settled when it began: its model, and its own folder.
    folder = await asyncio.to_thread(_copied, path, own.parent)
    copy = str(folder / path.name)
    try:
        return await exchange(lease, _WORKERS, {"path": copy, "scale": scale, "origin": str(path)})
    except BadRequest as error:
        raise BadRequest(error.message.replace(copy, str(path)), param="adapter") from error
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _copied(path: Path, own: Path) -> Path:
    """A new folder in a worker's own, with a copy of an adapter in it. Raises NoRoom, BadRequest.

    No link: a worker may write to what is in its folder.
    """
    folder: Path | None = None
    try:
        files = [file for file in path.iterdir() if file.name.startswith(ADAPTER_FILES)] if path.is_dir() else [path]
        needed, free = sum(file.stat().st_size for file in files), shutil.disk_usage(own).free
        if free < needed:
            raise NoRoom(f"a copy of {path.name} for the worker", needed, free, own)
        folder = Path(tempfile.mkdtemp(prefix="adapter-", dir=own))
        place = folder / path.name
        if path.is_dir():
            place.mkdir()
        for file in files:
            shutil.copyfile(file, place / file.name if path.is_dir() else place)
    except OSError as error:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        told = f"{error.filename or own}: {error.strerror or error}"
        raise BadRequest(f"{path} cannot be copied for the worker: {told}", param="adapter") from error
    return folder


async def _ask(lease: Lease, method: str, body: object = None) -> Any:
    """One request to the worker about its adapters. Raises what it gives as the reason."""
    try:
        response = await lease.channel.request(method, _WORKERS, b"" if body is None else orjson.dumps(body))
        data = await response.read(ANSWER_LIMIT)
    except ChannelBroken:
        raise await lease.fate() from None
    if response.status == 404:
        raise BadRequest(f"{lease.spec.title} has no adapters that come and go", param="model")
    if response.status >= 300:
        raise refusal(response.status, data, lease.model.id)
    return orjson.loads(data)
