"""`/v1/engines`: engines, their installs, and how these come and go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

from fastapi import FastAPI, Response
from pydantic import Field

from uml.core.errors import UmlError
from uml.core.install import Step
from uml.core.jsonable import jsonable
from uml.engine_room import EngineRoom, split
from uml.gateway.bodies import Strict
from uml.gateway.replies import json_reply
from uml.gateway.wire import EVENTS, Listener, Receive, Scope, Send, event
from uml.house import House


class InstallBody(Strict):
    """What to install, and by what."""

    engine: str = Field(description="`NAME`, for the version that was tried, or `NAME==VERSION`")
    installer: Literal["pip", "uv"] = Field("pip", description="Either reads its own configuration")
    again: bool = Field(False, description="Make another one where this version is installed already")
    stream: bool = Field(False, description="Tell the progress with server-sent events: progress, ready, error")


class EngineBody(Strict):
    """Which install."""

    engine: str = Field(description="`NAME==VERSION`, as in the list of engines; `NAME` alone is the one in use")


def add(app: FastAPI, house: House) -> None:
    """Put the routes into the application."""

    def room() -> EngineRoom:
        return EngineRoom(house.library)

    @app.get("/v1/engines", tags=["engines"], summary="Engines, whether they can be started, and their installs")
    async def engines() -> Response:
        return json_reply({"object": "list", "data": jsonable(await asyncio.to_thread(room().overview))})

    @app.post("/v1/engines/install", tags=["engines"], summary="Install an engine; closing the connection cancels")
    async def install(body: InstallBody) -> Response:
        return Making(room(), body)

    @app.post("/v1/engines/use", tags=["engines"], summary="Run this install from the next load on")
    async def use(body: EngineBody) -> Response:
        return json_reply(await asyncio.to_thread(room().use, *split(body.engine)))

    @app.post("/v1/engines/test", tags=["engines"], summary="Load a tiny model with an install and compare its answer")
    async def test(body: EngineBody) -> Response:
        return json_reply(await asyncio.to_thread(room().test, *split(body.engine)))

    @app.delete("/v1/engines/{engine}/{version}", tags=["engines"], summary="Remove an install")
    async def remove(engine: str, version: str) -> Response:
        return json_reply(await asyncio.to_thread(room().remove, engine, version))


class Making(Response):
    """Installs while it is sent: the client that closes the connection cancels, and nothing is left of it."""

    def __init__(self, room: EngineRoom, body: InstallBody) -> None:
        super().__init__()
        self._room = room
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        async with Listener(receive):
            if not self._body.stream:
                async with aclosing(self._steps()) as steps:
                    async for step in steps:
                        last = step
                await json_reply(last)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": [*EVENTS]})
            async with aclosing(self._events()) as events:
                async for data in events:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._steps()) as steps:
                async for step in steps:
                    yield event(jsonable(step), "progress" if isinstance(step, Step) else "ready")
        except UmlError as error:
            yield event(error.as_dict(), "error")

    async def _steps(self) -> AsyncGenerator[Step | dict[str, Any]]:
        """Every step of it, and last the install. Closing it ends the work, and waits until all is tidy."""
        loop, stop = asyncio.get_running_loop(), threading.Event()
        told: asyncio.Queue[Step | None] = asyncio.Queue()

        def tell(step: Step) -> None:
            loop.call_soon_threadsafe(told.put_nowait, step)

        work = asyncio.ensure_future(
            asyncio.to_thread(
                self._room.install,
                self._body.engine,
                self._body.installer,
                again=self._body.again,
                tell=tell,
                cancelled=stop.is_set,
            )
        )
        work.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while step := await told.get():
                yield step
            yield await work
        finally:
            stop.set()
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()  # told already, or nobody is there to be told
