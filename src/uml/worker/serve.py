"""A worker around a hosted engine: listens at once, so that /health tells of the load, and ends on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from uml.core.engine import Endpoint
from uml.core.host import Host
from uml.core.plan import LoadPlan
from uml.worker.app import App

GRACE_S: Final = 1
"""Seconds that running answers have when the process is asked to end."""


class Server(uvicorn.Server):
    """uvicorn that ends when asked to, and leaves it to us to close the host before the process goes."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn raises the signal again after its last request, which would skip the host's close."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)
        yield

    def _end(self) -> None:
        self.should_exit = True


def serve(host: Host, plan: LoadPlan, endpoint: Endpoint) -> None:
    """Listen, load, and serve until SIGTERM. Raises the UmlError of a failed load."""
    app = App(host, plan, endpoint.key)
    server = Server(
        uvicorn.Config(
            app,
            uds=str(endpoint.socket) if endpoint.socket else None,
            host=endpoint.host,
            port=endpoint.port,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            http="httptools",
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    try:
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(_load_and_serve(server, app))
    finally:
        host.close()


async def _load_and_serve(server: uvicorn.Server, app: App) -> None:
    serving = asyncio.create_task(server.serve())
    loading = asyncio.create_task(asyncio.to_thread(app.host.load, app.plan))
    await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        # Asked to end while loading. The thread cannot be told; the end of the process gives everything back.
        os._exit(0)
    try:
        loading.result()
        app.ready = True
    finally:
        if not app.ready:
            server.should_exit = True
        await serving
