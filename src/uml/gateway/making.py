"""Work that takes minutes, answered while it is done: its steps as events where the client asks for them.

It runs in a thread. A client that closes the connection cancels it, and the answer ends when all is tidy again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import Response

from uml.core.errors import UmlError
from uml.gateway.replies import json_reply, send_events
from uml.gateway.wire import Listener, Receive, Scope, Send, event

Tell = Callable[[Mapping[str, Any]], None]
"""Hears what happens, from the thread; the name of each event is its `event`."""
Work = Callable[[Tell, Callable[[], bool]], Mapping[str, Any]]
"""Does it, and gives what came of it. The second is asked whether nobody wants it any more."""


class Making(Response):
    """Works while it is sent. stream: with events, the last of which is `ready` or `error`; else the result alone."""

    def __init__(self, work: Work, *, stream: bool) -> None:
        super().__init__()
        self._work = work
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        async with Listener(receive):
            if not self._stream:
                last: Mapping[str, Any] = {}
                async with aclosing(self._steps()) as steps:
                    async for step in steps:
                        last = step
                await json_reply(_bare(last))(scope, receive, send)
                return
            await send_events(send, self._events())

    async def _events(self) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._steps()) as steps:
                async for step in steps:
                    yield event(_bare(step), step["event"])
        except UmlError as error:
            yield event(error.as_dict(), "error")

    async def _steps(self) -> AsyncGenerator[Mapping[str, Any]]:
        """Everything that it tells, and last what came of it as `ready`. Closing it ends the work."""
        loop, stop = asyncio.get_running_loop(), threading.Event()
        told: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()

        def tell(step: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(told.put_nowait, step)

        work = asyncio.ensure_future(asyncio.to_thread(self._work, tell, stop.is_set))
        work.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while step := await told.get():
                yield step
            yield {"event": "ready", **await work}
        finally:
            stop.set()
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()  # told already, or nobody is there to be told


def _bare(step: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "event"}
