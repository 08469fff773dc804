"""`/v1/engines`: engines, their installs, and how these come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from fastapi import FastAPI, Response
from pydantic import Field

from uml.core.install import Step
from uml.core.jsonable import jsonable
from uml.engine_room import EngineRoom, split
from uml.gateway.bodies import Strict
from uml.gateway.making import Making, Tell
from uml.gateway.replies import json_reply
from uml.house import House


class InstallBody(Strict):
    """What to install, and by what."""

    engine: str = Field(description="`NAME`, for the version that was tried, or `NAME==VERSION`")
    installer: Literal["pip", "uv"] = Field("pip", description="Either reads its own configuration")
    again: bool = Field(False, description="Make another one where this version is installed already")
    stream: bool = Field(False, description="Tell the progress with server-sent events: progress, ready, error")


class BuildBody(Strict):
    """What to build. It is not put in use: compare `speeds`, and POST to `/v1/engines/use`."""

    engine: Literal["llamacpp"] = "llamacpp"
    stream: bool = Field(False, description="Tell the progress with server-sent events: progress, ready, error")


class EngineBody(Strict):
    """Which install."""

    engine: str = Field(description="`NAME==VERSION`, as in the list of engines; `NAME` alone is the one in use")


def _steps(tell: Tell) -> Callable[[Step], None]:
    return lambda step: tell({"event": "progress", **jsonable(step)})


def add(app: FastAPI, house: House) -> None:
    """Put the routes into the application."""

    def room() -> EngineRoom:
        return EngineRoom(house.library)

    @app.get("/v1/engines", tags=["engines"], summary="Engines, whether they can be started, and their installs")
    async def engines() -> Response:
        return json_reply({"object": "list", "data": jsonable(await asyncio.to_thread(room().overview))})

    @app.post("/v1/engines/install", tags=["engines"], summary="Install an engine; closing the connection cancels")
    async def install(body: InstallBody) -> Response:
        def work(tell: Tell, cancelled: Callable[[], bool]) -> dict[str, Any]:
            return room().install(body.engine, body.installer, again=body.again, tell=_steps(tell), cancelled=cancelled)

        return Making(work, stream=body.stream)

    @app.post(
        "/v1/engines/build",
        tags=["engines"],
        summary="Build llama.cpp for this machine and compare it with the wheel; closing the connection cancels",
    )
    async def build(body: BuildBody) -> Response:
        def work(tell: Tell, cancelled: Callable[[], bool]) -> dict[str, Any]:
            return room().build(_steps(tell), cancelled)

        return Making(work, stream=body.stream)

    @app.post("/v1/engines/use", tags=["engines"], summary="Run this install from the next load on")
    async def use(body: EngineBody) -> Response:
        return json_reply(await asyncio.to_thread(room().use, *split(body.engine)))

    @app.post("/v1/engines/test", tags=["engines"], summary="Load a tiny model with an install and compare its answer")
    async def test(body: EngineBody) -> Response:
        return json_reply(await asyncio.to_thread(room().test, *split(body.engine)))

    @app.delete("/v1/engines/{engine}", tags=["engines"], summary="Remove the only install of an engine")
    async def remove_only(engine: str) -> Response:
        return json_reply(await asyncio.to_thread(room().remove, engine))

    @app.delete("/v1/engines/{engine}/{version}", tags=["engines"], summary="Remove an install")
    async def remove(engine: str, version: str) -> Response:
        return json_reply(await asyncio.to_thread(room().remove, engine, version))
