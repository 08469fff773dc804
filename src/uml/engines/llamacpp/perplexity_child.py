"""How surprised a model is by a text, by llama.cpp's own kernels: the child's side.

Run as a module, `python -P -m uml.engines.llamacpp.perplexity_child LIBRARY MODEL TEXT WINDOW THREADS`. As
llama.cpp's own tool (tools/perplexity) has it: the text in windows of so many tokens, the first token of each the
beginning of a text where the vocabulary has one, and the tokens of the second half of each window are scored.
Structures are those of `dryrun_child`, and checked as there. A line `N% so far` for each window on stdout, and the
last line is JSON.
"""

from __future__ import annotations

import ctypes as c
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, Final

from uml.engines.llamacpp.dryrun_child import ContextParams, Engine, ModelParams, Refused

LEAST: Final = 16
"""Tokens of a text that something can be said of."""


class Batch(c.Structure):
    """llama_batch."""

    _fields_ = (
        ("n_tokens", c.c_int32),
        ("token", c.POINTER(c.c_int32)),
        ("embd", c.c_void_p),
        ("pos", c.c_void_p),
        ("n_seq_id", c.c_void_p),
        ("seq_id", c.c_void_p),
        ("logits", c.POINTER(c.c_int8)),
    )


class Reader:
    """A model that is loaded to score tokens."""

    def __init__(self, library: str, model: str, window: int, threads: int) -> None:
        engine = Engine(library)
        self._log = engine.log
        self._library: Any = engine.library
        for name, result, arguments in (
            ("llama_model_get_vocab", c.c_void_p, (c.c_void_p,)),
            ("llama_vocab_n_tokens", c.c_int32, (c.c_void_p,)),
            ("llama_vocab_get_add_bos", c.c_bool, (c.c_void_p,)),
            ("llama_vocab_bos", c.c_int32, (c.c_void_p,)),
            (
                "llama_tokenize",
                c.c_int32,
                (c.c_void_p, c.c_char_p, c.c_int32, c.c_void_p, c.c_int32, c.c_bool, c.c_bool),
            ),
            ("llama_decode", c.c_int32, (c.c_void_p, Batch)),
            ("llama_get_logits_ith", c.POINTER(c.c_float), (c.c_void_p, c.c_int32)),
            ("llama_get_memory", c.c_void_p, (c.c_void_p,)),
            ("llama_memory_clear", None, (c.c_void_p, c.c_bool)),
        ):
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        how: ModelParams = self._library.llama_model_default_params()
        how.n_gpu_layers = 0
        loaded = self._library.llama_model_load_from_file(os.fsencode(model), how)
        if not loaded:
            raise Refused("; ".join(self._log.complaints) or "the model could not be loaded")
        self._vocabulary = self._library.llama_model_get_vocab(loaded)
        self._size = self._library.llama_vocab_n_tokens(self._vocabulary)
        context: ContextParams = self._library.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = window
        context.n_outputs_max = context.n_outputs_max_per_seq = 0
        context.n_threads = context.n_threads_batch = threads
        self._context = self._library.llama_init_from_model(loaded, context)
        if not self._context:
            raise Refused("; ".join(self._log.complaints) or "the context could not be made")

    def tokens(self, text: bytes) -> list[int]:
        """The tokens of a text, none of them special."""
        room = len(text) + 8
        out = (c.c_int32 * room)()
        count = self._library.llama_tokenize(self._vocabulary, text, len(text), out, room, False, False)
        if count < 0:
            raise Refused("the text could not be made into tokens")
        return list(out[:count])

    def costs(self, tokens: list[int]) -> list[float]:
        """Nats that each token of the second half of a window costs. Raises Refused."""
        tokens = list(tokens)
        if self._library.llama_vocab_get_add_bos(self._vocabulary):
            tokens[0] = self._library.llama_vocab_bos(self._vocabulary)
        first, last = len(tokens) // 2, len(tokens) - 1
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
        ids = (c.c_int32 * len(tokens))(*tokens)
        wanted = (c.c_int8 * len(tokens))(*(first <= at < last for at in range(len(tokens))))
        if code := self._library.llama_decode(self._context, Batch(len(tokens), ids, None, None, None, None, wanted)):
            raise Refused("; ".join(self._log.complaints) or f"the engine ended with {code}")
        return [self._cost(at, tokens[at + 1]) for at in range(first, last)]

    def _cost(self, at: int, token: int) -> float:
        scores = self._library.llama_get_logits_ith(self._context, at)
        if not scores:
            raise Refused("the engine gave no scores")
        values: list[float] = scores[: self._size]
        most = max(values)
        return math.log(math.fsum(math.exp(value - most) for value in values)) + most - values[token]


def main(library: str, model: str, text: str, window: int, threads: int) -> None:
    """Score the text, and say so. Ends with a sentence and code 1 where that cannot be."""
    if sys.platform == "linux":
        c.CDLL(None).prctl(1, 9)  # killed with its parent, it would work on for nobody: PR_SET_PDEATHSIG
    try:
        reader = Reader(library, model, window, threads)
        tokens = reader.tokens(Path(text).read_bytes())
        if len(tokens) < LEAST:
            raise Refused(f"the text has {len(tokens)} tokens; at least {LEAST} are needed")
        window = min(window, len(tokens))
        starts = range(0, len(tokens) - window + 1, window)
        costs: list[float] = []
        for number, start in enumerate(starts, 1):
            costs += reader.costs(tokens[start : start + window])
            print(f"{100 * number // len(starts)}% so far", flush=True)  # noqa: T201  # the parent reads it
    except (Refused, AttributeError) as error:
        sys.exit(f"Refused: {error}")
    answer = {"perplexity": math.exp(math.fsum(costs) / len(costs)), "tokens": len(costs)}
    print(json.dumps(answer), flush=True)  # noqa: T201  # the parent reads it


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
