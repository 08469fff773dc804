"""A tokenizer of words, and a generator that says them again; both libraries' stand-ins are made of it."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

KNOWN: list[str] = ["<s>", "</s>"]
END = 1


def record(what: str, **values: Any) -> None:
    """Tell of a call."""
    shown = {name: value for name, value in values.items() if value is not None}
    sys.stderr.write(f"CALL {what} {json.dumps(shown, default=lambda value: type(value).__name__, sort_keys=True)}\n")
    sys.stderr.flush()


def read(directory: str) -> None:
    """Fail as a broken folder would make the library fail."""
    fault = Path(directory) / "fault"
    if fault.exists():
        kind, _, text = fault.read_text().partition(": ")
        raise {"OutOfMemoryError": torch.OutOfMemoryError, "AssertionError": AssertionError}[kind](text)


def ids(text: str) -> list[int]:
    found = re.findall(r"\s*\S+", text)
    KNOWN.extend(word for word in dict.fromkeys(found) if word not in KNOWN)
    return [KNOWN.index(word) for word in found]


class Tokenizer:
    eos_token_id = END

    def encode(self, text: str, add_bos: bool = False, encode_special_tokens: bool = False) -> torch.Tensor:
        assert encode_special_tokens
        return torch.Tensor([[0] * add_bos + ids(text)])

    def decode(self, tokens: torch.Tensor, decode_special_tokens: bool = False) -> list[str]:
        return ["".join(KNOWN[token] for token in row) for row in tokens.rows]


class Echo:
    """Generates the prompt's words again, then ends; one word a step for every job."""

    def __init__(self, max_batch_size: int) -> None:
        self.limit = max_batch_size
        self.jobs: list[Any] = []

    def num_remaining_jobs(self) -> int:
        return len(self.jobs)

    def enqueue(self, job: Any) -> int:
        assert not any("unacceptable" in KNOWN[token] for token in job.input_ids[0]), "Job requires 99 pages"
        self.jobs.append(job)
        return len(self.jobs)

    def cancel(self, job: Any) -> None:
        record("cancel")
        if job in self.jobs:
            self.jobs.remove(job)

    def iterate(self) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for job in self.jobs[: self.limit]:
            results += self._step(job)
        return results

    def _step(self, job: Any) -> list[dict[str, Any]]:
        prompt = job.input_ids[0]
        if any("explode" in KNOWN[token] for token in prompt):
            raise torch.OutOfMemoryError("CUDA out of memory")
        if job.made == 0:
            job.made = 1
            return [{"job": job, "stage": "started", "eos": False}]
        place, job.made = job.made - 1, job.made + 1
        endless = any("endless" in KNOWN[token] for token in prompt)
        time.sleep(0.01 * endless)  # a step of a real model: somebody may leave in its middle
        if not endless and place == len(prompt) and not getattr(job, "filters", None):
            self.jobs.remove(job)
            return [{"job": job, "stage": "streaming", "eos": True, "eos_reason": "stop_token", "cached_tokens": 0}]
        token = prompt[place % len(prompt)]
        if getattr(job, "filters", None) and hasattr(job, "choose"):
            token = job.choose(token)
            if token == END:
                self.jobs.remove(job)
                return [{"job": job, "stage": "streaming", "eos": True, "eos_reason": "stop_token", "cached_tokens": 0}]
        last = place + 1 == job.max_new_tokens
        result = {
            "job": job,
            "stage": "streaming",
            "eos": last,
            "text": KNOWN[token],
            "token_ids": torch.Tensor([[token]]),
        }
        if last:
            self.jobs.remove(job)
            result["eos_reason"] = "max_new_tokens"
        return [result]
