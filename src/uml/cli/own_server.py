"""A server of one's own, for as long as one command lasts: a child on a free port, announced to nobody."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from uml.client.client import Client
from uml.client.errors import from_wire
from uml.core.errors import SetupError, UmlError

_END_S: Final = 15.0


@contextmanager
def own_server(data: Path) -> Iterator[Client]:
    """A client of a fresh server on this data folder; at the end, however it comes, the server is gone too.

    The child holds the other end of its standard input: it leaves when that closes, also when this
    process was killed. Its address comes back on its standard output, its key goes in by environment.
    Raises the child's own error when it cannot start.
    """
    key = secrets.token_urlsafe(32)
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(
            [sys.executable, "-m", "uml", "serve", "--ephemeral", "--json", "--data", str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env={**os.environ, "UML_API_KEY": key},
            # Ctrl-C is for the answer that is being read, not for the server that makes it.
            start_new_session=True,
        )
        try:
            with Client(_address(child, words), key) as client:
                yield client
        finally:
            _end(child)


def _address(child: subprocess.Popen[bytes], words: IO[bytes]) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    try:
        return str(json.loads(line)["url"])
    except (ValueError, KeyError, TypeError):
        child.wait(_END_S)
        raise _why(words) from None


def _why(words: IO[bytes]) -> UmlError:
    """The error with which the child ended: the last line of what it said that is one, else all of that."""
    words.seek(0)
    text = words.read().decode("utf-8", "replace").strip()
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and isinstance(found.get("error"), dict):
                return from_wire(500, found)
    return SetupError("the server for this command did not start", log=text[-4000:])


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()
