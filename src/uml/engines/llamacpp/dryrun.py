"""A dry run: the built-in llama.cpp is asked what a load would take, and allocates nothing.

It is asked in a child process of its own, kept warm for a few seconds: 40 to 500 ms for a model's vocabulary, then
2 to 8 ms for another context or cache type. The child is given what `table` gives the server, for the same rows.
Anything odd, a crash too, means no figures: the header's stand, and the log says why at level debug.
"""

from __future__ import annotations

import json
import logging
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

from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.engines.llamacpp.meaning import (
    batches,
    gpus,
    guessing,
    most_guesses,
    serves_embeddings,
    slots,
    tensor_overrides,
)
from uml.engines.llamacpp.rows import Member
from uml.engines.llamacpp.spec import NAME
from uml.engines.llamacpp.table import ROWS
from uml.planning import llamacpp_rules as rules
from uml.planning.refine import Figures, Known, fingerprint

log = logging.getLogger(__name__)

CHILD: Final = Path(__file__).with_name("dryrun_child.py")
IDLE_S: Final = 5.0
"""How long the child waits for another question: a person tries a few contexts."""
LIMIT_S: Final = 10.0
"""A vocabulary of 262,144 tokens takes 1 s on a busy machine."""
KEPT: Final = 4096
"""Answers remembered, of 200 bytes each."""
AGREE_BYTES: Final = 1 << 17
"""How far the log and the map of buffers may lie apart: the log is rounded to 0.01 MiB, line by line."""

_SAME_NAMES: Final = (
    *("n_ctx", "n_batch", "n_ubatch", "kv_unified", "flash_attn_type", "swa_full", "pooling_type"),
    *("rope_scaling_type", "rope_freq_base", "rope_freq_scale", "yarn_orig_ctx", "yarn_ext_factor"),
    *("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"),
)
_FIELDS: Final = dict(zip(_SAME_NAMES, _SAME_NAMES, strict=True)) | {
    "cache_type_k": "type_k",
    "cache_type_v": "type_v",
    "embedding": "embeddings",
    "n_parallel": "n_seq_max",
}
"""Attribute of `CommonParams` -> field of `llama_context_params`: common_context_params_to_llama in common.cpp."""
_ASKED: Final = frozenset(
    {
        *("ctx", "kv_unified", "parallel", "batch", "ubatch", "cache_type_k", "cache_type_v", "flash_attention"),
        *("swa_full", "embeddings", "rope_scaling", "rope_freq_base", "rope_freq_scale", "yarn_orig_ctx"),
        *("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"),
    }
)
_ROWS: Final = tuple(row for row in ROWS if _ASKED.intersection(row.options))

Question = Mapping[str, Any]


def question(plan: LoadPlan) -> Question | str:
    """What the child is asked for a plan, or why it cannot be asked."""
    options = plan.options
    if gpus(plan):
        return "it goes to a GPU, and asking would take the memory of a context there"
    if guessing(options) in ("mtp", "eagle3"):
        return f"{guessing(options)} makes a context of its own"
    overrides = [text.rpartition("=") for text in tensor_overrides(options)]
    if other := next((device for _, _, device in overrides if device != "CPU"), None):
        return f"override_tensor names {other}"
    if options.override_kv or options.extra_flags:
        return "override_kv and extra_flags may change anything"
    given = {name: value for row in _ROWS for name, value in row.parameters(plan).items()}
    context = {_FIELDS[name]: value.name if isinstance(value, Member) else value for name, value in given.items()}
    return {
        "path": str(plan.model.info.path),
        "model": {"use_extra_bufts": options.repack, "on_cpu": [pattern for pattern, _, _ in overrides]},
        "context": {**context, **_outputs(plan)},
    }


def _outputs(plan: LoadPlan) -> dict[str, int]:
    """Rows of logits that one batch may ask for: `server_output_limits` in tools/server/server-context.cpp."""
    batch = batches(plan)[0]
    if serves_embeddings(plan):
        return {"n_outputs_max": batch, "n_outputs_max_per_seq": 1}
    each = 1 + most_guesses(plan.options)
    return {"n_outputs_max": max(1, min(batch, slots(plan) * each)), "n_outputs_max_per_seq": max(1, min(batch, each))}


class DryRuns:
    """Answers of dry runs, and the child that gives them. May be asked from any thread.

    library: path of the shared library, looked for when it is first needed; None where there is none.
    """

    def __init__(self, library: Callable[[], Path | None], limit_s: float = LIMIT_S) -> None:
        self._library = library
        self._limit_s = limit_s
        self._answers: dict[tuple[str, str], Figures] = {}
        self._lock = Lock()
        self._child: _Child | None = None
        self._until_s = 0.0
        self._watched = False

    def foretell(self, plan: LoadPlan) -> bool:
        """Ask, unless the answer is known. Takes up to a second; True when there is a new answer."""
        asked = question(plan)
        if isinstance(asked, str):
            log.debug("no dry run of %s: %s", plan.model.id, asked)
            return False
        key = _key(fingerprint(plan.model.info), asked)
        if key in self._answers:
            return False
        began = time.perf_counter()
        try:
            with self._lock:
                answer = self._ask(asked)
            figures = read(answer, plan)
        except _NoAnswer as error:
            log.debug("no dry run of %s: %s; its header has to tell", plan.model.id, error)
            return False
        log.debug("dry run of %s took %.0f ms", plan.model.id, 1000 * (time.perf_counter() - began))
        if len(self._answers) >= KEPT:
            self._answers.clear()
        self._answers[key] = figures
        return True

    def foretold(self, model: Model) -> Known:
        """The answers for one model."""
        mark = fingerprint(model.info)

        def known(engine: str, options: LoadOptions) -> Figures | None:
            if engine != NAME or not self._answers:
                return None
            asked = question(LoadPlan(model, engine, options, _NOTHING, _NOWHERE))
            return None if isinstance(asked, str) else self._answers.get(_key(mark, asked))

        return known

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _ask(self, asked: Question) -> dict[str, Any]:
        if self._child is None or not self._child.lives:
            self._end()
            library = self._library()
            if library is None:
                raise _NoAnswer("there is no library to ask")
            self._child = _Child(library)
        try:
            return self._child.ask(asked, self._limit_s)
        except _NoAnswer:
            self._end()
            raise
        finally:
            self._until_s = time.monotonic() + IDLE_S
            self._look_again(IDLE_S)

    def _look_again(self, after_s: float) -> None:
        if self._child is not None and not self._watched:
            self._watched = True
            timer = Timer(after_s, self._rest)
            timer.daemon = True
            timer.start()

    def _rest(self) -> None:
        """End the child when nobody has asked for a while."""
        with self._lock:
            self._watched = False
            left_s = self._until_s - time.monotonic()
            if left_s > 0:
                self._look_again(left_s)
            else:
                self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


_NOTHING: Final = Footprint(0, 0, 0)
_NOWHERE: Final = Placement({})


def read(answer: Mapping[str, Any], plan: LoadPlan) -> Figures:
    """Figures out of the child's answer. Raises _NoAnswer for one that cannot be right.

    Where the child cannot read the map of buffers, the log alone tells of cache and computation, and the header
    of the weights.
    """
    if refused := answer.get("refused"):
        raise _NoAnswer(str(refused))
    buffers = answer["buffers"]
    info, options = plan.model.info, plan.options
    context, compute = int(answer["context"]), int(answer["compute"])
    process = rules.process(info, info.shape)
    weights = mapped = None
    spare = rules.copies(info, options, 1.0, amx=False).originals
    if buffers:
        weights, exact_context, exact_compute = (sum(sizes[part] for sizes in buffers.values()) for part in range(3))
        if abs(exact_context - context) > AGREE_BYTES or abs(exact_compute - compute) > AGREE_BYTES:
            raise _NoAnswer(f"its map of buffers says {exact_context} and {exact_compute} bytes, its log {answer}")
        context, compute = exact_context, exact_compute
        plain = sum(sizes[0] for name, sizes in buffers.items() if name == "CPU")
        stored = rules.stored_bytes(info)
        if not stored * 9 // 10 <= weights <= stored * 3:
            raise _NoAnswer(f"its weights are {weights} bytes, those in the file {stored}")
        spare = max(0, stored - plain)
        if options.mmap and not options.direct_io:
            pinned = spare if options.mlock else 0
            weights, mapped, spare = weights + pinned, plain + pinned, spare - pinned
        else:
            mapped = spare = 0
    return Figures(
        method="dry run",
        weight_bytes=weights,
        kv_bytes=context,
        compute_bytes=compute,
        mapped_bytes=mapped,
        below_bytes=process.likely - process.low,
        above_bytes=process.high - process.likely + spare,
    )


def library_path() -> Path | None:
    """The shared library of the wheel, without importing it."""
    found = find_spec("xllamacpp")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for file in sorted(Path(folder).glob("xllamacpp*.so")):
            return file
    return None


def _key(mark: str, asked: Question) -> tuple[str, str]:
    # A model is the same under any path.
    return mark, json.dumps([asked["model"], asked["context"]], sort_keys=True)


class _NoAnswer(Exception):
    """The engine did not tell, and why."""


class _Child:
    """The process that is asked. Its input ends when this one ends, and so does it."""

    def __init__(self, library: Path) -> None:
        argv = (sys.executable, "-I", "-S", str(CHILD), str(library), str(IDLE_S))
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "-1",
            "HIP_VISIBLE_DEVICES": "-1",
            "GGML_NO_BACKTRACE": "1",
        }
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                bufsize=0,
            )
        except OSError as error:
            raise _NoAnswer(f"no process: {error}") from error
        # Called at the end of the program too, which would find a child that nobody has waited for.
        self.close = weakref.finalize(self, _end, self._process)

    @property
    def lives(self) -> bool:
        """Whether it still waits for questions."""
        return self._process.poll() is None

    def ask(self, asked: Question, limit_s: float) -> dict[str, Any]:
        """The answer to one question. Raises _NoAnswer when there is none in time, or ever."""
        assert self._process.stdin and self._process.stdout
        until, answer = time.monotonic() + limit_s, b""
        try:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        except OSError as error:
            raise _NoAnswer(f"the child is gone: {error}") from error
        while not answer.endswith(b"\n"):
            left_s = until - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                raise _NoAnswer(f"no answer in {limit_s:g} s")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise _NoAnswer(f"the child ended with {self._process.wait()}")
            answer += part
        try:
            found = json.loads(answer)
        except ValueError as error:
            raise _NoAnswer(f"the child answered {answer[:80]!r}") from error
        return dict(found)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and wait for its end."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
