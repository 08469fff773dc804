"""`GET /v1/models/{id}/capabilities`: what a model can do on its engine."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import FastAPI, Query, Response

from uml.gateway.replies import json_reply
from uml.house import House

Needs = Annotated[
    str,
    Query(
        description="What it should be able to do, with commas: names of request parameters and load options, image, "
        "audio, video. `engines` is in that order"
    ),
]


def add(app: FastAPI, house: House) -> None:
    """Put the route into the application; before those that end in a name, which may hold slashes."""

    @app.get("/v1/models/{name:path}/capabilities", tags=["models"], summary="What a model can do on its engine")
    async def capabilities(name: str, needs: Needs = "") -> Response:
        model = await asyncio.to_thread(house.library.look, name)
        found = await asyncio.to_thread(house.library.capabilities, model, house.worker(model.id), needs)
        return json_reply(found)
