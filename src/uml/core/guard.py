"""A plug-in's code is called here, and nowhere else: with a time limit, and nothing that it raises gets through.

A thread of its own runs it. One that hangs cannot be ended, in Python; it is left standing, and the plug-in is not
called again. A child process would be safer still (code that never lets go of the interpreter's lock stops this one),
and could hand over neither engines nor functions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Literal, TypeVar

from uml.core.errors import UmlError

CALL_LIMIT_S: Final = 2.0
"""For one call of a plug-in that was loaded."""

State = Literal["ready", "failed", "hung"]
T = TypeVar("T")


class LeftOut(Exception):
    """The plug-in was left out, now or earlier; `str()` says why."""


class Guard:
    """Calls one plug-in's code. May be used from any thread; calls wait for each other.

    state: `ready` until a call fails while it is loaded, or hangs at any time. says: why it is not.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: State = "ready"
        self.says = ""
        self._lock = threading.Lock()
        self._work: SimpleQueue[_Call] | None = None

    def call(self, what: str, function: Callable[..., T], *arguments: Any, limit_s: float = CALL_LIMIT_S) -> T:
        """What the function gives. Raises LeftOut where it hangs or raises, and an UmlError of its own as it is."""
        call = _Call(function, arguments)
        with self._lock:
            if self.state != "ready":
                raise LeftOut(self.says)
            if self._work is None:
                self._work = SimpleQueue()
                threading.Thread(target=_serve, args=(self._work,), daemon=True, name=f"plugin {self.name}").start()
            self._work.put(call)
            if not call.done.wait(limit_s):
                self.state, self.says = "hung", f"{what} did not come back within {limit_s:g} s"
                raise LeftOut(self.says)
        if isinstance(call.error, UmlError):
            raise call.error
        if call.error is not None:
            raise LeftOut(f"{what} raised {type(call.error).__name__}: {call.error}"[:500]) from call.error
        result: T = call.result
        return result

    def fail(self, reason: str) -> None:
        """Call it no more."""
        if self.state == "ready":
            self.state, self.says = "failed", reason


class _Call:
    """One call on its way to the plug-in's thread and back."""

    __slots__ = ("arguments", "done", "error", "function", "result")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = threading.Event()


def _serve(work: SimpleQueue[_Call]) -> None:
    while True:
        call = work.get()
        try:
            call.result = call.function(*call.arguments)
        except BaseException as error:  # the boundary to the code of others: also where that wants to exit
            call.error = error
        call.done.set()
