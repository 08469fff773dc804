"""A worker: `python -m uml.worker --engine NAME`, or `--exec` in front of an engine that is a program; `--bridge` in
front of one that can listen on a port only.

All read one JSON line from standard input. The pipe then stays open: its end means that the parent is gone.
Only what the chosen way needs is imported, for a load must not take much longer than the engine alone takes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Final, NoReturn

from uml.worker.lifeline import die_with_parent, die_without, has_ended, read_line

USAGE_ERROR: Final = 2
LOAD_FAILED: Final = 3
STRANGERS: Final = ("LLAMA_ARG_", "AIP_")
"""Beginnings of variables by which llama-server would take settings that no plan knows of."""


def main(arguments: list[str]) -> int:
    """Serve until the parent goes; the exit code says why not."""
    # Ctrl-C in a terminal goes to every process of the group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Sockets and files of a worker are its owner's alone.
    os.umask(0o077)
    die_with_parent()
    if len(arguments) == 2 and arguments[0] == "--engine":
        return run_engine(arguments[1])
    if arguments == ["--exec"]:
        run_program()
    if arguments == ["--bridge"]:
        return run_bridge()
    sys.stderr.write("usage: python -m uml.worker --engine NAME | --exec | --bridge, with one JSON line on stdin\n")
    return USAGE_ERROR


def run_engine(name: str) -> int:
    """Load what standard input says with an engine that is a library, and serve it."""
    line = read_line(0)
    if not line:
        return 0  # the parent went before it said anything
    threading.Thread(target=die_without, args=(0,), daemon=True, name="lifeline").start()
    try:
        if name == "llamacpp":
            from uml.engines.llamacpp.embedded import serve

            wait_for_the_end(serve(json.loads(line)))
        else:
            serve_host(name, line)
    except Exception as error:
        # Whatever it is, it is looked at there, and raised again where it is none of ours: those are imported where
        # there is one, for a load that goes well has no time for them.
        tell(error)
        return LOAD_FAILED
    return 0


def serve_host(name: str, line: bytes) -> None:
    """Serve the plan on the line with a hosted engine. Raises the UmlError of a failed load."""
    from uml.engines import host
    from uml.engines.handover import from_line
    from uml.worker.serve import serve

    handover = from_line(line)
    serve(host(name), handover.plan, handover.endpoint)


def tell(error: Exception) -> None:
    """Write an error of ours to the log as the parent reads it. Raises any other."""
    from uml.core.errors import UmlError
    from uml.engines.handover import failure_line

    if not isinstance(error, UmlError):
        raise error
    sys.stderr.write(failure_line(error))
    sys.stderr.flush()


def wait_for_the_end(server: object) -> None:
    """Keep the server alive; a signal or the lifeline ends the process. The engine answers on threads of its own."""
    while server:
        signal.pause() if hasattr(signal, "pause") else threading.Event().wait()


def run_program() -> NoReturn:
    """Become the program that standard input names. The parent's death still ends it: that survives the exec."""
    line = read_line(0)
    if not line or has_ended(0):
        os._exit(0)  # the parent went before the kernel had its promise, and nobody would tell the program
    order = json.loads(line)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STRANGERS)}
    program, *_ = order["argv"]
    os.execve(program, order["argv"], {**kept, **order["environment"]})  # noqa: S606 - an argument list, no shell


def run_bridge() -> int:
    """Start the program that standard input names, and be its socket."""
    line = read_line(0)
    if not line:
        return 0  # the parent went before it said anything
    threading.Thread(target=die_without, args=(0,), daemon=True, name="lifeline").start()
    from uml.worker.bridge import run

    return run(json.loads(line))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
