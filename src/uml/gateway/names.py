"""`/v1/models/alias`, `unalias` and `forget`: by which names models are known, and which are known no longer."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Response
from pydantic import Field

from uml.core.errors import BadRequest
from uml.core.jsonable import jsonable
from uml.gateway.bodies import Strict
from uml.gateway.replies import json_reply
from uml.house import House
from uml.registry.forgetting import Target, target


class AliasBody(Strict):
    """Which model gets which name."""

    model: str = Field(description="Id, alias or path")
    alias: str = Field(description="One more name for it; a name given to another model before goes over to it")


class UnaliasBody(Strict):
    """Which name is taken back."""

    alias: str = Field(description="A name that was given; those that come from files and repositories stay")


class ForgetBody(Strict):
    """What is forgotten."""

    model: str = Field(description="Id, alias or path of a model, or a folder that was added with scan")


def add(app: FastAPI, house: House) -> None:
    """Put the routes into the application."""

    @app.post("/v1/models/alias", tags=["models"], summary="Give a model one more name")
    async def alias(body: AliasBody) -> Response:
        model = await asyncio.to_thread(house.library.registry.alias, body.model, body.alias)
        return json_reply(await asyncio.to_thread(house.library.describe, model, house.worker(model.id)))

    @app.post("/v1/models/unalias", tags=["models"], summary="Take back a name that was given")
    async def unalias(body: UnaliasBody) -> Response:
        await asyncio.to_thread(house.library.registry.unalias, body.alias)
        return json_reply({"alias": body.alias})

    @app.post("/v1/models/forget", tags=["models"], summary="Forget a model, or a folder; no file is deleted")
    async def forgotten(body: ForgetBody) -> Response:
        found = await asyncio.to_thread(target, house.library.registry, body.model)
        _refuse_loaded(house, found)
        return json_reply(jsonable(await asyncio.to_thread(house.library.forget, found)))


def _refuse_loaded(house: House, found: Target) -> None:
    held = [worker.model for worker in house.supervisor.status() if worker.state != "failed"]
    if loaded := sorted(set(found.models) & set(held)):
        raise BadRequest(
            f"{', '.join(loaded)} is loaded; unload it first: uml unload {loaded[0]}", param="model", loaded=loaded
        )
