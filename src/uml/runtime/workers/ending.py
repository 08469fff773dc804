"""Why a worker ended, from what it left behind."""

from __future__ import annotations

import re
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.engine import Engine
from uml.core.errors import LoadFailed, OutOfMemory, UmlError, WorkerDied
from uml.core.plan import LoadPlan
from uml.engines.handover import failure_in

LATELY: Final = 60
"""Beats. To give back the memory of a large model takes its process seconds."""

_TIME: Final = r"\d+\.\d{2}\.\d{3}\.\d{3} "
STAMP: Final = re.compile(rf"^{_TIME}[A-Z] ")
CHATTER: Final = re.compile(rf"^{_TIME}[DITW] ")
"""How llama.cpp begins lines that are no errors: the time since its start, and a letter."""
QUOTED: Final = re.compile(rf"^({_TIME}[DITW] .*[\s:=(])'[^'\n]*\n(?:(?!{_TIME}).*\n)*?(?!{_TIME}).*'$", re.MULTILINE)
"""One of those that quotes a text of several lines, as a chat template's example: none of them tells a cause."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a worker. `error`: why, where nobody had asked for it.

    converted: it was there to make what its model is loaded from, and that is there now.
    """

    exit_code: int | None
    error: UmlError | None = None
    converted: bool = False


def oom_kills() -> int:
    """How many processes of the machine the kernel has killed for want of memory; 0 where it does not tell."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text("ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


class Shortage:
    """Whether memory ran out of late: whom the kernel killed for it, it does not tell.

    count: of such kills so far.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._counts = deque((count(),), maxlen=LATELY)

    def beat(self) -> None:
        """Time goes on: what was before the last `LATELY` of these is of another day."""
        self._counts.append(self._count())

    def felt(self) -> bool:
        """Whether the kernel has killed for want of memory since then."""
        return self._count() > self._counts[0]


def explain(
    plan: LoadPlan,
    engine: Engine,
    log: str,
    exit_code: int | None,
    *,
    served: bool,
    starved: bool,
    limit_bytes: int | None = None,
) -> UmlError:
    """The engine's own reading of the log, else the signal and the last line.

    served: it was ready once, so that this is a WorkerDied whatever the cause, and not a LoadFailed.
    starved: the kernel has just killed for want of memory, so that a SIGKILL was that.
    limit_bytes: what a setting lets it take of the memory.
    """
    model, device = plan.model.id, plan.placement.device
    limit = limit_bytes if "cpu" in plan.placement.device_bytes else None
    # The launcher before any engine tells its failures in our own words.
    cause = engine.cause(plan, log, exit_code) or failure_in(log)
    refused = _refused_memory(log) or (limit is not None and _refused_thread(log))
    if cause is None and (refused or (starved and exit_code == -signal.SIGKILL)):
        cause = OutOfMemory(model, device, plan.footprint.total_bytes or None, limit=limit)
    elif type(cause) is OutOfMemory and limit is not None and cause.details.get("device") in ("cpu", None):
        cause = OutOfMemory(model, "cpu", cause.details.get("needed"), limit=limit)
    if not served:
        return cause or LoadFailed(model, _words(model, log, exit_code), exit_code=exit_code)
    if cause is None:
        return WorkerDied(model, _words(model, log, exit_code), exit_code=exit_code, reason=_kind(exit_code))
    reason = cause.message.removeprefix(f"{model} did not load: ")
    died = WorkerDied(model, f"{reason} ({how(exit_code)})", exit_code=exit_code, reason=cause.code)
    died.__cause__ = cause
    return died


def _refused_memory(log: str) -> bool:
    """Whether the last line is that of a program that was refused memory, as by a limit of ours."""
    last = log.rstrip().rpartition("\n")[2]
    return last.startswith("MemoryError") or "std::bad_alloc" in last


def _refused_thread(log: str) -> bool:
    """Whether it ended for a thread that it could not have; under a limit of memory that is for want of its stack."""
    return "Resource temporarily unavailable" in log[-500:] or "can't start new thread" in log[-500:]


def _kind(exit_code: int | None) -> str:
    """A code for the cause where only the exit tells: `crashed`, `killed`, `exited`."""
    if exit_code is None or exit_code >= 0:
        return "exited"
    return "killed" if -exit_code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP) else "crashed"


def how(exit_code: int | None) -> str:
    """An exit code in words."""
    if exit_code is None:
        return "it never ran"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    if -exit_code == getattr(signal, "SIGBUS", 0):
        return "killed by SIGBUS: a file that it had mapped has become shorter or cannot be read any more"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


def _words(model: str, log: str, exit_code: int | None) -> str:
    """How it ended, and the last line that may tell why: what an engine says of its usual work never does."""
    lines = (line.strip() for line in reversed(QUOTED.sub(r"\1", log).splitlines()) if not CHATTER.match(line))
    if last := next((line for line in lines if any(map(str.isalnum, line))), ""):
        return f"{how(exit_code)}; its last words: {STAMP.sub('', last)[:300]}"
    if log.strip():
        return f"{how(exit_code)}; its log tells of no error (uml logs {model})"
    return f"{how(exit_code)}, without a word in its log"
