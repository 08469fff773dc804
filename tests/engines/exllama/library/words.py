"""A tokenizer of words, and a generator that says them again; both libraries' stand-ins are made of it."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scores import SIZE, TOKENS, scores

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


def word(token: int) -> str:
    """The text of a token; those that were not met yet have one too."""
    assert token < TOKENS
    return KNOWN[token] if token < len(KNOWN) else f" w{token}"


class Tokenizer:
    eos_token_id = END
    actual_vocab_size = TOKENS

    def encode(self, text: str, add_bos: bool = False, encode_special_tokens: bool = False) -> torch.Tensor:
        assert encode_special_tokens
        return torch.tensor([[0] * add_bos + ids(text)], dtype=torch.long)

    def decode(self, tokens: torch.Tensor, decode_special_tokens: bool = False) -> list[str]:
        return ["".join(map(word, row)) for row in tokens.tolist()]

    def get_id_to_piece_list(self, include_special_tokens: bool = False) -> list[str]:
        assert include_special_tokens
        return list(KNOWN)


class Job:
    """What both libraries' jobs have in common: a text that grows, and shrinks again where a banned one came."""

    def __init__(self, input_ids: Any, most: int, ends: list[int], banned: list[str] | None = None) -> None:
        self.prompt: list[int] = input_ids[0].tolist()
        self.text, self.most, self.ends = list(self.prompt), most, ends
        self.banned = [text.lower() for text in banned or ()]
        self.started = False
        self.held: list[int] = []
        self.checkpoint: dict[str, Any] | None = None

    @property
    def new_tokens(self) -> int:
        return len(self.text) - len(self.prompt)

    def says(self, what: str) -> bool:
        """Whether the prompt has a word that has this in it."""
        return any(what in word(token) for token in self.prompt)

    def logits(self) -> torch.Tensor:
        """The model's scores: the prompt's words again and then an end, or what `scores` gives at this place."""
        row = np.zeros(SIZE + -SIZE % 128, np.float32)
        if self.says("flat"):
            row[:SIZE] = scores(self.new_tokens)
        elif self.says("broken"):
            row[:] = np.nan
        else:
            over = self.new_tokens == len(self.prompt) and not self.says("endless")
            row[END if over else self.prompt[self.new_tokens % len(self.prompt)]] = 20
        return torch.tensor(row[None, None], dtype=torch.float)

    def blocked(self) -> list[int]:
        """Tokens by which a banned text began at this place."""
        return self.checkpoint["explored_tokens"] if self.checkpoint and not self.checkpoint["offset"] else []

    def receive_sample(self, token: int) -> dict[str, Any]:
        found: dict[str, Any] = {"job": self, "stage": "streaming", "eos": False}
        self.text.append(token)
        self.held.append(token)
        if token in self.ends:
            found |= {"eos": True, "eos_reason": "stop_token", "eos_triggering_token_str": word(token)}
            return found | {"cached_tokens": 0, "held": self.emitted()}
        if self.new_tokens == self.most:
            return found | {"eos": True, "eos_reason": "max_new_tokens"} | self.emitted()
        said = "".join(map(word, self.held)).lower()
        if any(text in said for text in self.banned):
            explored = self.explore(token)
            del self.text[-explored["offset"] :]
            self.held, explored["offset"] = [], 0
            return found
        if any(said.endswith(text[:size]) for text in self.banned for size in range(1, len(text))):
            self.explore(token)
            return found
        self.checkpoint = None
        return found | self.emitted()

    def explore(self, token: int) -> dict[str, Any]:
        """A banned text may have begun: where to go back to, and by what not to go on from there."""
        if self.checkpoint is None:
            self.checkpoint = {"offset": 0, "explored_tokens": []}
        self.checkpoint["offset"] += 1
        if self.checkpoint["offset"] == 1:
            self.checkpoint["explored_tokens"].append(token)
        return self.checkpoint

    def emitted(self) -> dict[str, Any]:
        held, self.held = self.held, []
        return {"text": "".join(map(word, held)), "token_ids": torch.tensor([held], dtype=torch.long)}


class Echo:
    """Steps jobs: one token a step for each."""

    def __init__(self, max_batch_size: int) -> None:
        self.limit = max_batch_size
        self.jobs: list[Any] = []

    def num_remaining_jobs(self) -> int:
        return len(self.jobs)

    def enqueue(self, job: Any) -> int:
        assert not job.says("unacceptable"), "Job requires 99 pages"
        self.jobs.append(job)
        return len(self.jobs)

    def cancel(self, job: Any) -> None:
        record("cancel")
        if job in self.jobs:
            self.jobs.remove(job)

    def iterate(self) -> list[dict[str, Any]]:
        results = [self._step(job) for job in self.jobs[: self.limit]]
        self.jobs = [job for job in self.jobs if not any(one["job"] is job and one["eos"] for one in results)]
        return results

    def _step(self, job: Any) -> dict[str, Any]:
        if job.says("explode"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        if not job.started:
            job.started = True
            return {"job": job, "stage": "started", "eos": False}
        time.sleep(0.01 * job.says("endless"))  # a step of a real model: somebody may leave in its middle
        token, *rest = job.receive_logits(job.logits())
        assert token.shape == (1, 1) and token.dtype == torch.long
        assert not any(rest)
        found: dict[str, Any] = job.receive_sample(token.item())
        return found
