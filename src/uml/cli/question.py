"""What `uml run` asks: its prompt, and what stands on standard input."""

from __future__ import annotations

import select
import sys
from typing import Final

import typer

from uml.cli import render

_SILENCE_S: Final = 2.0
"""How long standard input is waited for where there is a prompt already."""


def read_question(prompt: str | None) -> str | None:
    """The prompt, then what stands on standard input; None where there is neither.

    Raises BadParameter for what is empty, or no UTF-8.
    """
    if prompt is not None and not _is_text(prompt):
        raise typer.BadParameter("the prompt is not UTF-8")
    piped = "" if sys.stdin is None or sys.stdin.isatty() else _piped(patient=prompt is None)
    parts = [part for part in (prompt, piped.strip("\n")) if part]
    if not parts and (prompt is not None or not (sys.stdin and sys.stdin.isatty())):
        raise typer.BadParameter("the prompt is empty")
    return "\n\n".join(parts) or None


def _piped(patient: bool) -> str:
    """All of standard input.

    patient: wait for its first byte for as long as that takes. Else a pipe that says nothing for a while is one
    that this program was merely started with: services and other programs leave theirs open for ever.
    """
    if not patient and not _says_something():
        render.note(f"nothing came on standard input within {_SILENCE_S:g} s: the prompt goes without it")
        return ""
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError:
        text = "\udcff"
    if not _is_text(text):
        raise typer.BadParameter("standard input is not UTF-8 text")
    return text


def _says_something() -> bool:
    try:
        return bool(select.select([sys.stdin], [], [], _SILENCE_S)[0])
    except (OSError, ValueError):  # what has no descriptor does not block
        return True


def _is_text(text: str) -> bool:
    """Whether it has no bytes that Python could not decode (it keeps them as surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
