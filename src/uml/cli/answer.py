"""An answer as it comes in: printed, and timed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from uml.cli import render
from uml.client.piece import Piece


class Measured:
    """Pieces of an answer, with the speed once they are over; closing it closes them."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._started = time.perf_counter()
        self._first: float | None = None
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._ended = self._started

    def __iter__(self) -> Iterator[Piece]:
        for piece in self._pieces:
            self._ended = time.perf_counter()
            if self._first is None and (piece.text or piece.reasoning):
                self._first = self._ended
            self._usage = dict(piece.usage or self._usage)
            self._timings = dict(piece.timings or self._timings)
            yield piece

    def close(self) -> None:
        """Stop the answer."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()

    @property
    def speed(self) -> str:
        """Tokens and speed in a line; what the engine measured goes before what was seen from here."""
        tokens = self._usage.get("completion_tokens")
        if tokens is None:
            return ""
        parts = [f"{self._usage.get('prompt_tokens', '?')} tokens of prompt", f"{tokens} tokens"]
        rate = self._timings.get("predicted_per_second")
        if not isinstance(rate, int | float) and self._first is not None and tokens > 1:
            taken = self._ended - self._first
            rate = (tokens - 1) / taken if taken > 0 else None
        if isinstance(rate, int | float):
            parts.append(f"{rate:.1f} tokens/s")
        if self._first is not None:
            parts.append(f"first after {self._first - self._started:.2f} s")
        return ", ".join(parts)


class Printer:
    """Writes an answer: the text on stdout, thoughts and remarks on stderr."""

    def __init__(self, verbose: bool = False) -> None:
        self._verbose = verbose
        self._shows_thoughts = verbose or sys.stdout.isatty()
        self._safe = sys.stdout.isatty()
        self._thinking = False
        self.text = ""

    def put(self, piece: Piece) -> None:
        """Write one piece at once."""
        for warning in piece.warnings:
            render.note(f"warning: {warning.get('param')}: {warning.get('reason')}")
        if piece.reasoning and self._shows_thoughts:
            self._thinking = True
            sys.stderr.write(_dim(render.printable(piece.reasoning)))
            sys.stderr.flush()
        if piece.text:
            if self._thinking:
                self._thinking = False
                sys.stderr.write("\n\n")
                sys.stderr.flush()
            self.text += piece.text
            # What goes into a file or a pipe stays as it is.
            sys.stdout.write(render.printable(piece.text) if self._safe else piece.text)
            sys.stdout.flush()
        for call in piece.tool_calls:
            function = call.get("function") or {}
            render.note(f"{function.get('name') or ''}{function.get('arguments') or ''}")

    def end(self, speed: str = "") -> None:
        """End the answer's last line, and say how fast it was where that was asked for."""
        if not self.text.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()
        if self._verbose and speed:
            render.note(f"({speed})")


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else text
