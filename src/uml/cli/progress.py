"""Progress of a load on stderr: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from uml.cli import render

_SHOW_AFTER_S: Final = 0.4
"""A load that is over sooner needs no bar, and no import of rich."""

Update = Callable[[Mapping[str, Any]], None]


@contextmanager
def load_bar(name: str, quiet: bool = False) -> Iterator[Update]:
    """A function that takes the events of a load and shows how far it is; the bar is gone at the end."""
    if quiet or not sys.stderr.isatty():
        yield lambda event: None
        return
    bar = _Bar(name)
    try:
        yield bar.update
    finally:
        bar.close()


class _Bar:
    """A bar that comes into being when the load has taken a moment."""

    def __init__(self, name: str) -> None:
        self._name = render.printable(name)
        self._started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def update(self, event: Mapping[str, Any]) -> None:
        if self._bar is None:
            if time.monotonic() - self._started < _SHOW_AFTER_S:
                return
            self._open()
        self._bar.update(
            self._task,
            completed=float(event.get("percent") or 0.0),
            stage=stage(event),
            size=_size(event),
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _open(self) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[stage]}", style="cyan", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[size]}", markup=False),
            TimeElapsedColumn(),
            console=render.console(sys.stderr),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._name, total=100.0, stage="", size="")


def stage(event: Mapping[str, Any]) -> str:
    """The stage in a word or two: `loading`, `queued (2nd)`."""
    name = str(event.get("stage", ""))
    position = event.get("queue_position")
    return f"{name} (place {position})" if name == "queued" and position else name


def _size(event: Mapping[str, Any]) -> str:
    from uml.core.errors import gib

    total = event.get("total_bytes")
    return f"{gib(int(event.get('bytes') or 0))} of {gib(int(total))}" if total else ""
