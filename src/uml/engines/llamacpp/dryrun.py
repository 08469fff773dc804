"""A dry run: llama.cpp is asked what a load would take, and allocates nothing.

What is asked is what `table` gives the server, by the same rows. Who answers is an `Oracle`: the built-in library
in a child process (`dryrun_library`), or the tool beside a program of the user's (`dryrun_tool`). Anything odd, a
crash too, means no figures: the header's stand, and the log says why at level debug.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final, Protocol

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
from uml.planning.refine import Figures, Known, fingerprint

log = logging.getLogger(__name__)

KEPT: Final = 4096
"""Answers remembered, of 200 bytes each."""
AGAIN_S: Final = 60.0
"""A question without an answer is not asked again so soon: on a machine with no time for it, each load would wait."""

_SAME_NAMES: Final = (
    *("n_ctx", "n_batch", "n_ubatch", "kv_unified", "flash_attn_type", "swa_full", "pooling_type"),
    *("rope_scaling_type", "rope_freq_base", "rope_freq_scale", "yarn_orig_ctx", "yarn_ext_factor"),
    *("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"),
)
FIELDS: Final = dict(zip(_SAME_NAMES, _SAME_NAMES, strict=True)) | {
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


class NoAnswer(Exception):
    """The engine did not tell, and why."""


class Oracle(Protocol):
    """Who is asked. One question at a time."""

    def ask(self, asked: Question, plan: LoadPlan) -> Figures:
        """The figures for a plan, of which `asked` is the question. Raises NoAnswer."""
        ...

    def close(self) -> None:
        """Let go of what is held between two questions."""
        ...


def question(plan: LoadPlan) -> Question | str:
    """What is asked for a plan, or why nothing can be."""
    options = plan.options
    if gpus(plan):
        return "it goes to a GPU, and asking would take the memory of a context there"
    if guessing(options) in ("mtp", "eagle3"):
        return f"{guessing(options)} makes a context of its own"
    overrides = [text.rpartition("=") for text in tensor_overrides(plan)]
    if other := next((device for _, _, device in overrides if device != "CPU"), None):
        return f"override_tensor names {other}"
    if options.override_kv or options.extra_flags:
        return "override_kv and extra_flags may change anything"
    given = {name: value for row in _ROWS for name, value in row.parameters(plan).items()}
    context = {FIELDS[name]: value.name if isinstance(value, Member) else value for name, value in given.items()}
    return {
        "path": str(plan.model.info.path),
        "model": {"use_extra_bufts": options.repack, "on_cpu": [pattern for pattern, _, _ in overrides]},
        "context": {**context, **_outputs(plan)},
        # The child does not map anything; its answer is understood by these.
        "reading": [options.mmap, options.mlock, options.direct_io],
    }


def _outputs(plan: LoadPlan) -> dict[str, int]:
    """Rows of logits that one batch may ask for: `server_output_limits` in tools/server/server-context.cpp."""
    batch = batches(plan)[0]
    if serves_embeddings(plan):
        return {"n_outputs_max": batch, "n_outputs_max_per_seq": 1}
    each = 1 + most_guesses(plan.options)
    return {"n_outputs_max": max(1, min(batch, slots(plan) * each)), "n_outputs_max_per_seq": max(1, min(batch, each))}


class DryRuns:
    """Answers of dry runs, for as long as this lives. May be asked from any thread."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._answers: dict[tuple[str, str], Figures] = {}
        self._again_at: dict[tuple[str, str], float] = {}
        self._lock = Lock()

    def foretell(self, plan: LoadPlan) -> bool:
        """Ask, unless the answer is known. Takes up to a second; True when there is a new answer."""
        asked = question(plan)
        if isinstance(asked, str):
            log.debug("no dry run of %s: %s", plan.model.id, asked)
            return False
        key = _key(fingerprint(plan.model.info), asked)
        if key in self._answers or time.monotonic() < self._again_at.get(key, 0.0):
            return False
        began = time.perf_counter()
        try:
            with self._lock:
                figures = self._oracle.ask(asked, plan)
        except NoAnswer as error:
            log.debug("no dry run of %s: %s; its header has to tell", plan.model.id, error)
            self._again_at[key] = time.monotonic() + AGAIN_S
            return False
        log.debug("dry run of %s took %.0f ms", plan.model.id, 1000 * (time.perf_counter() - began))
        if len(self._answers) >= KEPT:
            self._answers.clear()
            self._again_at.clear()
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
        """Let go of what is held for the next question, which may still be asked."""
        with self._lock:
            self._oracle.close()


_NOTHING: Final = Footprint(0, 0, 0)
_NOWHERE: Final = Placement({})


def _key(mark: str, asked: Question) -> tuple[str, str]:
    # A model is the same under any path.
    return mark, json.dumps({**asked, "path": ""}, sort_keys=True)
