"""What choosing a token costs a hosted engine: samplers one by one, all of them, and structured output.

python -m benchmarks.sampling

Processor time, for that is all that choosing takes. Logits and vocabulary are made up: a bell curve with fifty tokens
above it, and words of letters.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from benchmarks.common import median, table
from uml.sampling.chain import Chain, choose_all
from uml.sampling.grammar import Structures
from uml.sampling.settings import Settings
from uml.sampling.vocabulary import Vocabulary

SIZES: Final = (32_000, 152_064)
ROWS, TOKENS, RUNS, BATCH = 16, 64, 15, 8
PROMPT: Final = 1000
NEUTRAL: Final[dict[str, Any]] = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0}
EVERYTHING: Final[dict[str, Any]] = {
    "temperature": 0.9, "dynatemp_range": 0.3, "smoothing_factor": 0.2, "top_k": 100, "top_p": 0.95, "min_p": 0.01,
    "typical_p": 0.97, "tfs": 0.98, "top_a": 0.01, "top_h": 0.95, "top_n_sigma": 3, "epsilon_cutoff": 1,
    "eta_cutoff": 1, "xtc_probability": 0.5, "repetition_penalty": 1.1, "presence_penalty": 0.2,
    "frequency_penalty": 0.2, "repetition_penalty_range": -1, "encoder_repetition_penalty": 1.1,
    "no_repeat_ngram_size": 4, "dry_multiplier": 0.8, "dry_penalty_last_n": -1, "logit_bias": {"3": 1},
    "banned_strings": ["testament to", "shivers down"], "logprobs": 5,
}  # fmt: skip
KINDS: Final[dict[str, dict[str, Any]]] = {
    "temperature 0": {"temperature": 0},
    "defaults (top-k 40, top-p 0.95, min-p 0.05, temperature 0.8)": {},
    "defaults, and five alternatives told": {"logprobs": 5},
    "temperature 1 and nothing else": NEUTRAL,
    "top-p 0.95 alone": {**NEUTRAL, "top_p": 0.95},
    "min-p 0.05 alone": {**NEUTRAL, "min_p": 0.05},
    "typical 0.95 alone": {**NEUTRAL, "typical_p": 0.95},
    "top-n-sigma 1 alone": {**NEUTRAL, "top_n_sigma": 1},
    "defaults, penalties and DRY over the whole context": {
        "repetition_penalty": 1.1, "presence_penalty": 0.2, "repetition_penalty_range": -1, "dry_multiplier": 0.8,
        "dry_penalty_last_n": -1,
    },
    "Mirostat 2": {"mirostat_mode": 2},
    "adaptive-p": {"adaptive_target": 0.5},
    "everything": EVERYTHING,
}  # fmt: skip
SCHEMA: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "age": {"type": "integer"},
        "kind": {"enum": ["person", "place", "thing"]},
    },
    "required": ["name", "tags", "age", "kind"],
    "additionalProperties": False,
}


def vocabulary(size: int) -> Vocabulary:
    """Single bytes, and words of two to eight letters, most with a space in front."""
    luck = random.Random(1)
    words = {
        (b" " if luck.random() < 0.6 else b"") + bytes(luck.choices(b"etaoinshrdlucmfwypvbgk", k=luck.randint(2, 8)))
        for _ in range(size * 2)
    }
    pieces = [*(bytes([byte]) for byte in range(256)), *sorted(words)][: size - 1]
    return Vocabulary.of_pieces([*pieces, b"<end>"], ends=[size - 1])


def rows_of(size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Logits of some places."""
    luck = np.random.default_rng(2)
    rows = luck.standard_normal((ROWS, size)).astype(np.float32) * np.float32(2.5)
    for row in rows:
        row[luck.integers(0, size, 50)] += luck.exponential(4, 50).astype(np.float32) + np.float32(6)
    return rows


def each(work: Callable[[int], object]) -> float:
    """Microseconds of the processor for one call with the number of a token, the median of some runs."""
    runs = []
    for _ in range(RUNS):
        began = time.process_time()
        for number in range(TOKENS):
            work(number)
        runs.append((time.process_time() - began) / TOKENS * 1e6)
    return median(runs)


def chosen(words: Vocabulary, request: dict[str, Any]) -> float:
    """Microseconds a token of one answer."""
    rows = rows_of(len(words))
    chain = Chain(Settings.of({**request, "seed": 1}), words, list(range(300, 300 + PROMPT)))
    return each(lambda number: chain.choose(rows[number % ROWS]))


def batched(words: Vocabulary) -> float:
    """Microseconds a token of one of eight answers with the defaults."""
    rows = rows_of(len(words))
    chains = [Chain(Settings.of({"seed": seed}), words, list(range(PROMPT))) for seed in range(BATCH)]
    return each(lambda number: choose_all(chains, rows[(number % 2) * BATCH : (number % 2 + 1) * BATCH])) / BATCH


def structured(words: Vocabulary, structures: Structures) -> tuple[float, float, float]:
    """Microseconds a token of an answer by a schema, of these its mask; and milliseconds before its first token."""
    rows, spent, masks, tokens = rows_of(len(words)), 0.0, 0.0, 0
    began = time.process_time()
    structures.of({"json_schema": {**SCHEMA, "title": f"{began}"}})
    ready = (time.process_time() - began) * 1e3
    for seed in range(8):
        guide = structures.of({"json_schema": SCHEMA})
        assert guide is not None
        chain = Chain(Settings.of({"seed": seed}), words)
        for number in range(TOKENS):
            if not guide.free_to_choose:
                break
            began = time.process_time()
            mask = guide.mask()
            masked = time.process_time()
            choice = chain.choose(rows[(number + seed) % ROWS], mask)
            guide.accept(choice.token)
            spent, masks, tokens = spent + time.process_time() - began, masks + masked - began, tokens + 1
    return spent / tokens * 1e6, masks / tokens * 1e6, ready


def main() -> None:
    """Print the tables."""
    words = [vocabulary(size) for size in SIZES]
    head = ["samplers", *(f"{size:,} tokens" for size in SIZES)]
    rows = [[name, *(f"{chosen(one, request):.0f} us" for one in words)] for name, request in KINDS.items()]
    rows.append(["defaults, one of eight answers", *(f"{batched(one):.0f} us" for one in words)])
    table("Choosing a token, processor time", head, rows)
    found = []
    for one in words:
        structures, began = Structures(one), time.process_time()
        structures.of({"regex": "a"})
        first = (time.process_time() - began) * 1e3
        found.append((*structured(one, structures), first))
    names = (
        "a token by a JSON schema, with the defaults",
        "of these, the mask",
        "a schema that is new",
        "a model's first",
    )
    units = ("us", "us", "ms", "ms")
    cells = [
        [name, *(f"{f[at]:.{int(u == 'ms')}f} {u}" for f in found)]
        for at, (name, u) in enumerate(zip(names, units, strict=True))
    ]
    table("Structured output, processor time", ["what", *head[1:]], cells)


if __name__ == "__main__":
    main()
