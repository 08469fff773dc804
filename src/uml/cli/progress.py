"""Progress on stderr: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from uml.cli import render
from uml.core.errors import gib

_SHOW_AFTER_S: Final = 0.4
"""What is over sooner needs no bar, and no import of rich."""

Update = Callable[[Mapping[str, Any]], None]
Looked = Callable[[int, int, Path], None]


@contextmanager
def load_bar(name: str, quiet: bool = False) -> Iterator[Update]:
    """A function that takes the events of a load and shows how far it is; the bar is gone at the end."""
    with _bar(name, quiet) as bar:
        yield lambda event: bar(float(event.get("percent") or 0.0), 100.0, stage(event), _size(event))


@contextmanager
def scan_bar(title: str, quiet: bool = False) -> Iterator[Looked]:
    """A function that takes how many files were looked at, of how many, and the next one."""
    with _bar(title, quiet) as bar:
        yield lambda done, total, path: bar(float(done), float(total), f"{done} of {total}", path.name)


@contextmanager
def install_bar(name: str, quiet: bool = False) -> Iterator[Update]:
    """The same for an install, by what there is of it on the disk. Where no bar can be drawn, a line a step.

    What would end the program stops the work as Ctrl-C does, so that it is tidied up.
    """
    if quiet or sys.stderr.isatty():
        with _ended_as_stopped(), _bar(name, quiet) as bar:
            yield lambda event: bar(float(event.get("percent") or 0.0), 100.0, str(event.get("text", "")), _size(event))
        return
    last = ""

    def tell(event: Mapping[str, Any]) -> None:
        nonlocal last
        if (text := str(event.get("text", ""))) != last:
            render.note(f"{name}: {text}")
            last = text

    with _ended_as_stopped():
        yield tell


@contextmanager
def _ended_as_stopped() -> Iterator[None]:
    """While this lasts, KeyboardInterrupt comes of SIGTERM too, and of a terminal that is closed (SIGHUP)."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        ends = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        # One that is ignored, as under nohup, stays so; None is not Python's, and could not be put back.
        before = {end: signal.signal(end, stop) for end in ends if signal.getsignal(end) not in (signal.SIG_IGN, None)}
    try:
        yield
    finally:
        for end, handler in before.items():
            signal.signal(end, handler)


def stage(event: Mapping[str, Any]) -> str:
    """The stage in a word or two: `loading`, `queued (place 2): waits for a free slot of its model`."""
    name = str(event.get("stage", ""))
    position, reason = event.get("queue_position"), event.get("reason")
    if name != "queued" or not position:
        return name
    return f"{name} (place {position})" + (f": waits for {reason}" if reason else "")


def _size(event: Mapping[str, Any]) -> str:
    total = event.get("total_bytes")
    return f"{gib(int(event.get('bytes') or 0))} of {gib(int(total))}" if total else ""


def followed(events: Iterable[dict[str, Any]], tell: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Tell every step of a work that a server does; what its last event, `ready`, says."""
    done: dict[str, Any] = {}
    for event in events:
        done = event
        if event["event"] != "ready":
            tell(event)
    return {key: value for key, value in done.items() if key != "event"}


@contextmanager
def _bar(name: str, quiet: bool) -> Iterator[Callable[[float, float, str, str], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda done, total, stage, what: None
        return
    bar = _Bar(name)
    try:
        yield bar.update
    finally:
        bar.close()


class _Bar:
    """A bar that comes into being when the work has taken a moment."""

    def __init__(self, name: str) -> None:
        self._name = render.printable(name)
        self._started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def update(self, done: float, total: float, stage: str, what: str) -> None:
        """Show how far it is."""
        if self._bar is None:
            if time.monotonic() - self._started < _SHOW_AFTER_S:
                return
            self._open()
        shown = render.printable(what)
        self._bar.update(self._task, completed=done, total=total, stage=render.printable(stage), what=shown)

    def close(self) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.stop()

    def _open(self) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[stage]}", style="cyan", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            TimeElapsedColumn(),
            console=render.console(sys.stderr),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._name, total=100.0, stage="", what="")
