"""`uml serve` and `uml stop`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from uml import __version__
from uml.cli import render
from uml.cli.command import command
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.client.find import ServerFile, find_server, read_server_file
from uml.core.errors import NoServer, SetupError

if TYPE_CHECKING:
    import psutil

    from uml.config import Settings

_STOP_S: Final = 30.0


@command(server=False, load_options=True)
def serve(
    session: Session,
    options: dict[str, Any],
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address to listen on (UML_HOST; 127.0.0.1)", show_default=False),
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(metavar="PORT", help="Port to listen on; 0: any free one (UML_PORT; 8080)", show_default=False),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Key that every request must bring (UML_API_KEY)", show_default=False),
    ] = None,
    model_folder: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="A folder with models; may be given several times", show_default=False),
    ] = None,
    llama_server: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A llama-server to run instead of the embedded one", show_default=False),
    ] = None,
    memory_budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory that models may use together: 24GiB, 75%", show_default=False),
    ] = None,
    gpu_budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="The same of GPUs: 80%, 20GiB, or cuda:0=20GiB,cuda:1=50%", show_default=False
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error", metavar="LEVEL", show_default=False)
    ] = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", hidden=True)] = False,
) -> Result | None:
    """Start the server; Ctrl-C stops it. Load options given here hold where a request has none."""
    engine = options.pop("engine", None)
    flags: dict[str, object] = {
        "host": host,
        "port": port,
        "api_key": api_key,
        "model_folders": tuple(model_folder) if model_folder else None,
        "engine": engine,
        "options": options or None,
        "llama_server": llama_server,
        "memory_budget": memory_budget,
        "gpu_budget": gpu_budget,
        "log_level": log_level,
    }
    if ephemeral:
        _serve_child(session, flags)
        return None
    settings = session.settings_with(**flags)
    for warning in settings.warnings:
        render.note(f"warning: {warning}")
    _serve(settings, announce=True, session=session)
    return None


def _serve_child(session: Session, flags: dict[str, object]) -> None:
    """For `uml run`: a port and a folder for sockets of its own, and gone when standard input ends."""
    with tempfile.TemporaryDirectory(prefix="uml-", dir=_short_temp()) as runtime:
        settings = session.settings_with(**flags | {"host": "127.0.0.1", "port": 0, "runtime": runtime})
        threading.Thread(target=_leave_with_parent, daemon=True).start()
        _serve(settings, announce=False, session=session)


def _short_temp() -> str | None:
    return "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108  # paths of sockets are short; the folder is 0700


def _leave_with_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(settings: Settings, announce: bool, session: Session) -> None:
    # Imported here: FastAPI and all rooms below come with it.
    from uml.gateway.serve import serve as run_gateway

    def ready(url: str) -> None:
        if session.flags.json:
            render.emit({"url": url, "pid": os.getpid(), "version": __version__})
        else:
            render.note(f"uml {__version__} listens on {url}  (API: {url}/docs, Ctrl-C stops it)")

    run_gateway(settings, announce=announce, on_ready=ready)


@command(server=False)
def stop(
    session: Session,
    force: Annotated[bool, typer.Option("--force", help="Kill it when it does not leave by itself")] = False,
) -> Result:
    """Stop the server of this data folder; loaded models go with it."""
    server = read_server_file(session.settings.data)
    if server is None or not _is_ours(server, session.settings.data):
        raise NoServer
    _end(server.pid, force)
    return said({"stopped": True, "url": server.url, "pid": server.pid}, f"stopped the server at {server.url}")


def _is_ours(server: ServerFile, data: Path) -> bool:
    """Whether the process in the file is that server: a number may have gone to another process since."""
    import psutil

    client = find_server(data)
    if client is not None:
        client.close()
        return psutil.pid_exists(server.pid)
    with contextlib.suppress(psutil.Error):  # it hangs, or it is gone
        return any("uml" in Path(word).name for word in psutil.Process(server.pid).cmdline()[:3])
    return False


def _left(process: psutil.Process) -> None:
    """Wait until it has left; so has one that its parent never asks after, as in a container. Raises TimeoutExpired."""
    import psutil

    end = time.monotonic() + _STOP_S
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            raise psutil.TimeoutExpired(_STOP_S)
        time.sleep(0.05)


def _end(pid: int, force: bool) -> None:
    import psutil

    try:
        process = psutil.Process(pid)
        process.terminate()
        try:
            _left(process)
        except psutil.TimeoutExpired:
            if not force:
                raise SetupError(
                    f"the server (process {pid}) did not leave within {_STOP_S:.0f} s; kill it with: uml stop --force"
                ) from None
            process.kill()
            _left(process)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise SetupError(f"the server (process {pid}) belongs to another user") from error
