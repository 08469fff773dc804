"""`GET /v1/plugins`: what plug-ins there are, what they add, and why one is left out."""

from __future__ import annotations

from fastapi import FastAPI, Response

from uml.core.jsonable import jsonable
from uml.gateway.replies import json_reply
from uml.house import House


def add(app: FastAPI, house: House) -> None:
    """Put the route into the application."""

    @app.get("/v1/plugins", tags=["server"], summary="Plug-ins: what they add, and why one is left out")
    async def plugins() -> Response:
        return json_reply({"plugins": jsonable(house.library.plugins.found)})
