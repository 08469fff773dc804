"""`/v1/models/{id}/profile` and `/v1/models/profile`: load options that are saved for a model."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Response
from pydantic import Field

from uml.gateway.bodies import Strict
from uml.gateway.replies import json_reply
from uml.house import House


class ProfileBody(Strict):
    """What is saved for which model."""

    model: str = Field(description="Id, alias or path")
    options: Annotated[
        dict[str, Any],
        Field(default_factory=dict, description="Load options by name, over those of before; null takes one out"),
    ]
    clear: bool = Field(False, description="Forget those of before first")


def add(app: FastAPI, house: House) -> None:
    """Put the routes into the application."""

    @app.get("/v1/models/{name:path}/profile", tags=["models"], summary="Load options that are saved for a model")
    async def profile(name: str) -> Response:
        model = house.library.registry.resolve(name)
        return json_reply({"model": model.id, "options": await asyncio.to_thread(house.library.profile, model)})

    @app.post("/v1/models/profile", tags=["models"], summary="Save load options for every load of a model")
    async def save(body: ProfileBody) -> Response:
        model = await asyncio.to_thread(house.library.find, body.model)
        options = await asyncio.to_thread(house.library.save_profile, model, body.options, clear=body.clear)
        return json_reply({"model": model.id, "options": options})
