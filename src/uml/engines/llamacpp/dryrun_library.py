"""A dry run by the built-in library: the parent's side of `dryrun_child`, and what its answer means.

The child is kept warm for a few seconds: 40 to 500 ms for a model's vocabulary, then 2 to 8 ms for another context
or cache type.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Timer
from typing import Any, Final

from uml.core.plan import LoadPlan
from uml.engines.llamacpp.dryrun import NoAnswer, Question
from uml.planning.llamacpp import rules as rules
from uml.planning.refine import Figures

CHILD: Final = Path(__file__).with_name("dryrun_child.py")
IDLE_S: Final = 5.0
"""How long the child waits for another question: a person tries a few contexts."""
LIMIT_S: Final = 10.0
"""A vocabulary of 262,144 tokens takes 1 s on a busy machine."""
END_S: Final = 1.0
"""How long a child that is not needed any more may take to go; one that hangs is killed."""
AGREE_BYTES: Final = 1 << 17
"""How far the log and the map of buffers may lie apart: the log is rounded to 0.01 MiB, line by line."""


class WheelOracle:
    """Asks the library that comes with this package.

    library: finds the shared library when it is first needed; None where there is none.
    """

    def __init__(self, library: Callable[[], Path | None], limit_s: float = LIMIT_S, idle_s: float = IDLE_S) -> None:
        self._library = library
        self._limit_s, self._idle_s = limit_s, idle_s
        self._child: _Child | None = None
        self._lock = Lock()
        self._until_s = 0.0
        self._watched = False

    def ask(self, asked: Question, plan: LoadPlan) -> Figures:
        """The figures for a plan. Raises NoAnswer."""
        with self._lock:
            return read(self._answer(asked), plan)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _answer(self, asked: Question) -> Mapping[str, Any]:
        if self._child is None or not self._child.lives:
            self._end()
            library = self._library()
            if library is None:
                raise NoAnswer("there is no library to ask")
            self._child = _Child(library, self._idle_s)
        try:
            answer = self._child.ask(asked, self._limit_s)
        except NoAnswer:
            self._end()
            raise
        self._until_s = time.monotonic() + self._idle_s
        self._look_again(self._idle_s)
        return answer

    def _look_again(self, after_s: float) -> None:
        if not self._watched:
            self._watched = True
            timer = Timer(after_s, self._rest)
            timer.daemon = True
            timer.start()

    def _rest(self) -> None:
        """End the child when nobody has asked for a while."""
        with self._lock:
            self._watched = False
            left_s = self._until_s - time.monotonic()
            if self._child is not None and left_s > 0:
                self._look_again(left_s)
            else:
                self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


def read(answer: Mapping[str, Any], plan: LoadPlan) -> Figures:
    """Figures out of the child's answer. Raises NoAnswer for one that cannot be right.

    Where the child cannot read the map of buffers, the log alone tells of cache and computation, and the header
    of the weights. Pages of the file from which copies were made are counted in `above_bytes` only: nobody
    reads them again. Locked ones stay.
    """
    if refused := answer.get("refused"):
        raise NoAnswer(str(refused))
    options, header = plan.options, plan.footprint
    kv_bytes, compute_bytes = int(answer["context"]), int(answer["compute"])
    process = rules.process(plan.model.info, plan.model.info.shape)
    # Adapters, a projector and a draft model are in no dry run.
    above = process.high - process.likely + (header.other_bytes // 8 if _accompanied(plan) else 0)
    below = process.likely - process.low
    buffers = answer["buffers"]
    if not buffers:
        above = max(above, header.high_bytes - header.total_bytes)
        return Figures("dry run", None, kv_bytes, compute_bytes, below_bytes=below, above_bytes=above)
    weights, context, compute = (sum(sizes[part] for sizes in buffers.values()) for part in range(3))
    if abs(context - kv_bytes) > AGREE_BYTES or abs(compute - compute_bytes) > AGREE_BYTES:
        raise NoAnswer(f"buffers of {context} and {compute} bytes, and by its log of {kv_bytes} and {compute_bytes}")
    stored = rules.stored_bytes(plan.model.info)
    if not stored * 9 // 10 <= weights <= stored * 3:
        raise NoAnswer(f"its weights are {weights} bytes, those in the file {stored}")
    plain = sum(sizes[0] for name, sizes in buffers.items() if name == "CPU")
    if not options.mmap or options.direct_io:
        return Figures("dry run", weights, context, compute, None, 0, below_bytes=below, above_bytes=above)
    spare = max(0, stored - plain)
    if options.mlock:
        weights, plain, spare = weights + spare, plain + spare, 0
    return Figures("dry run", weights, context, compute, None, plain, below_bytes=below, above_bytes=above + spare)


def _accompanied(plan: LoadPlan) -> bool:
    return bool(plan.options.mmproj or plan.options.lora or plan.options.draft_model)


def library_path() -> Path | None:
    """The shared library of the wheel, without importing it."""
    found = find_spec("xllamacpp")
    folders = (found.submodule_search_locations if found else None) or ()
    return next((file for folder in folders for file in sorted(Path(folder).glob("xllamacpp*.so"))), None)


class _Child:
    """The process that is asked. Its input ends when this one ends, and so does it."""

    def __init__(self, library: Path, idle_s: float) -> None:
        argv = (sys.executable, "-I", str(CHILD), str(library), str(2 * idle_s))
        # It must not take the memory of a context on a GPU, nor start a debugger on itself when it aborts.
        hidden = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "GGML_NO_BACKTRACE": "1"}
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                argv, stdin=pipe, stdout=pipe, stderr=nowhere, env={**os.environ, **hidden}, bufsize=0
            )
        except OSError as error:
            raise NoAnswer(f"no process: {error}") from error
        # Called at the end of the program too, which would find a child that nobody has waited for.
        self.end = weakref.finalize(self, _end, self._process)

    @property
    def lives(self) -> bool:
        """Whether it still waits for questions."""
        return self._process.poll() is None

    def ask(self, asked: Question, limit_s: float) -> dict[str, Any]:
        """The answer to one question. Raises NoAnswer when there is none in time, or ever."""
        assert self._process.stdin and self._process.stdout
        until, answer = time.monotonic() + limit_s, b""
        try:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        except OSError as error:
            raise NoAnswer(f"the child is gone: {error}") from error
        while not answer.endswith(b"\n"):
            left_s = until - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                raise NoAnswer(f"no answer in {limit_s:g} s")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise NoAnswer(f"the child ended with {self._process.wait()}")
            answer += part
        try:
            return dict(json.loads(answer))
        except ValueError as error:
            raise NoAnswer(f"the child says {answer[:80]!r}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """Tell a process that nobody asks any more, and wait for its end."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
