"""In front of a server that listens on loopback only: it is started, and reached at the worker's own socket.

Bytes go through as they are. Nobody but the owner of the socket's folder can come this way; in a sandbox the program's
port is in a network of its own, without one it is open to every user of this machine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from uml.worker.lifeline import die_with_parent

PORT: Final = "{port}"
"""In the program's arguments: where the port goes that it is to listen on."""
CHUNK: Final = 1 << 16


def run(order: Mapping[str, Any]) -> int:
    """Serve until the program ends or this process is told to. order: `argv`, `environment`, `socket`."""
    return asyncio.run(_run(order["argv"], order["environment"], Path(order["socket"])))


async def _run(argv: Sequence[str], environment: Mapping[str, str], path: Path) -> int:
    port = free_port()
    words = [word.replace(PORT, str(port)) for word in argv]
    program = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        env={**os.environ, **environment},
        # It must not outlive this process, as this one must not outlive the server.
        preexec_fn=die_with_parent,
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: _tell(program))

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _through(reader, writer, port)

    async with await asyncio.start_unix_server(through, str(path)):
        code = await program.wait()
    if code < 0:
        # As the program died, so does this: its parent reads the cause from it.
        with suppress(OSError):  # SIGKILL has no handler to be reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _tell(program: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        program.terminate()


async def _through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """One connection, both ways; the end of either is the end of both, so that a client that leaves is noticed."""
    try:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:  # it does not listen yet
        writer.close()
        return
    ways = [asyncio.create_task(_pump(reader, outer)), asyncio.create_task(_pump(inner, writer))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    for end in (writer, outer):
        end.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await source.read(CHUNK):
            target.write(chunk)
            await target.drain()
