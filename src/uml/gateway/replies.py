"""What our own endpoints answer with: JSON, and a load that is answered while it goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from fastapi import Response

from uml.core.errors import UmlError
from uml.core.jsonable import jsonable
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Progress
from uml.gateway.wire import EVENTS, Call, Listener, Receive, Scope, Send, encoded, event
from uml.house import House


def json_reply(value: Any, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(encoded(value), status, media_type="application/json")


async def send_events(send: Send, events: AsyncGenerator[bytes]) -> None:
    """Answer with events as they come. They are closed when nobody hears them any more: what they stand for ends."""
    await send({"type": "http.response.start", "status": 200, "headers": [*EVENTS]})
    async with aclosing(events) as found:
        async for data in found:
            await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class Load(Response):
    """Loads while it is sent: the client that closes the connection cancels the load."""

    def __init__(
        self,
        house: House,
        model: Model,
        options: LoadOptions | None,
        keep_alive_s: float | None,
        *,
        stream: bool,
        pin: bool = False,
    ) -> None:
        super().__init__()
        self._keep_alive_s = keep_alive_s
        self._pin = pin
        self._house = house
        self._model = model
        self._options = options
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        call: Call = scope["uml.call"]
        call.model = self._model.id
        async with Listener(receive):
            if not self._stream:
                if self._pin:
                    status = await self._house.pin(self._model, self._options)
                else:
                    status = await self._house.supervisor.load(self._model, self._options, self._keep_alive_s)
                await json_reply(jsonable(status))(scope, receive, send)
                return
            await send_events(send, self._events())

    async def _events(self) -> AsyncGenerator[bytes]:
        supervisor = self._house.supervisor
        try:
            # It is a generator, and closing it is the cancel.
            steps_of = supervisor.load_progress(self._model, self._options, self._keep_alive_s)
            progress = cast("AsyncGenerator[Progress]", steps_of)
            async with aclosing(progress) as steps:
                async for step in steps:
                    if step.stage != "ready":
                        yield event(jsonable(step), "progress")
            # One that is to leave when it is idle may have left already.
            status = self._house.worker(self._model.id)
            yield event(jsonable(status) if status else {"model": self._model.id, "warnings": []}, "ready")
        except UmlError as error:
            yield event(error.as_dict(), "error")
