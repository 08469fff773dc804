"""serve(): from settings to a server that answers, and back to nothing when it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

import uvicorn

from uml import __version__
from uml.access import check_bind
from uml.config import Settings, ensure_writable
from uml.core.errors import AlreadyRunning, BadSetting, PortTaken, SetupError, UmlError
from uml.core.quote import quoted
from uml.gateway.app import Application, application
from uml.gateway.protocol import Protocol
from uml.house import House
from uml.telemetry.logs import setup
from uml.telemetry.metrics import Metrics
from uml.telemetry.watch import Watch

log = logging.getLogger(__name__)

SERVER_FILE: Final = "server.json"
LOCK_FILE: Final = "server.lock"
BACKLOG: Final = 1024
GRACE_S: Final = 1
"""How long running answers may go on after the signal to stop."""


def serve(settings: Settings, announce: bool = True, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; the second one does not wait for anybody.

    announce: write `server.json` (`url`, `pid`, `key`) into the data folder, for clients of this
        user, and be the only server there. on_ready: called with the address when requests are answered.
    Raises SetupError: BadSetting, PortTaken, AlreadyRunning, FolderNotWritable.
    """
    setup(settings.log_level)
    check_bind(settings.host, settings.api_key)
    ensure_writable(settings.data)
    with contextlib.ExitStack() as held:
        if announce:
            held.enter_context(_only_server(settings.data))
        listener = held.enter_context(contextlib.closing(bind(settings.host, settings.port)))
        url = address(settings.host, listener)

        def ready() -> None:
            if announce:
                held.enter_context(_announced(settings, url))
            (on_ready or _say)(url)

        run = _runner()
        run(_serve(settings, listener, ready))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises PortTaken, BadSetting, SetupError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _no_address(host, error) from error
    # `localhost` is both on most machines, and clients try the older one.
    family, kind, protocol, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        # A port whose last connections are still closing counts as free; one that is listened on does not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise SetupError(f"port {port} needs more rights than this user has; take one from 1024 on") from error
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, _owner(port)) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise _no_address(host, error) from error
        raise SetupError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def _no_address(host: str, error: OSError) -> BadSetting:
    return BadSetting(f"host is {quoted(host)}; expected an address of this machine ({error.strerror or error})")


def address(host: str, listener: socket.socket) -> str:
    """The URL by which programs of this machine reach the server."""
    port = listener.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}" if ":" in name and not name.startswith("[") else f"http://{name}:{port}"


async def _serve(settings: Settings, listener: socket.socket, ready: Callable[[], None]) -> None:
    metrics = Metrics()
    async with House.open(settings, Watch(metrics)) as house:
        metrics.workers = house.supervisor.status
        looking = asyncio.create_task(_look_for_models(house, settings))
        server = Server(application(house, settings, metrics), ready)
        try:
            await server.serve(sockets=[listener])
        finally:
            looking.cancel()
            log.info("stopping")


async def _look_for_models(house: House, settings: Settings) -> None:
    """Look through all model folders once; requests are answered, and known models loaded meanwhile that are kept."""
    unknown = house.preload()
    for folder in settings.model_folders:
        if not await asyncio.to_thread(folder.is_dir):
            log.warning("the model folder %s is not there: no model of it is known until `uml scan %s`", folder, folder)
    try:
        report = await asyncio.to_thread(house.library.registry.rescan, settings.model_folders)
        log.info("looked for models", extra={"added": len(report.added), "vanished": len(report.vanished)})
    except UmlError as error:
        log.warning("could not look for models: %s", error)
    for name in house.preload(unknown) if unknown else ():
        log.warning("no model is called %s: it is not preloaded", name)


class Server(uvicorn.Server):
    """The HTTP server. Signals end it, and nothing else: what comes after it is ours to close."""

    def __init__(self, app: Application, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=Protocol,
                ws="none",
                lifespan="off",
                access_log=False,
                # Whose address a proxy says it is matters to nobody here, and every request would pay.
                proxy_headers=False,
                log_config=None,
                server_header=False,
                date_header=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=GRACE_S,
                backlog=BACKLOG,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As the original, but a caught signal is not raised again: the workers are still to be ended."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks to stop, a second one stops waiting."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def _runner() -> Callable[[Any], None]:
    try:
        import uvloop
    except ImportError:  # it has no build for this system
        return asyncio.run
    return uvloop.run


def _say(url: str) -> None:
    sys.stdout.write(f"ready at {url}\n")
    sys.stdout.flush()


# --- one server a data folder -----------------------------------------------------------------


@contextmanager
def _only_server(data: Path) -> Iterator[None]:
    """Hold the data folder's lock. Raises AlreadyRunning. The lock ends with the process, however that ends."""
    with (data / LOCK_FILE).open("a+") as file:
        if not _locked(file):
            url, pid = _said(data)
            raise AlreadyRunning(url, pid)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # not a Unix
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _said(data: Path) -> tuple[str, int]:
    """What the running server said of itself."""
    try:
        said = json.loads((data / SERVER_FILE).read_text("utf-8"))
        return str(said["url"]), int(said["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return "an address that it has not told yet", 0


@contextmanager
def _announced(settings: Settings, url: str) -> Iterator[None]:
    """Keep `server.json` while the server runs; only its user may read it, for the key is in it."""
    path = settings.data / SERVER_FILE
    fresh = path.with_name(f"{SERVER_FILE}.{os.getpid()}")
    said = {"url": url, "pid": os.getpid(), "key": settings.api_key, "version": __version__}
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(said, file)
    fresh.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _owner(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr[1] == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        pass  # other users' processes are not ours to see
    return "another program"
