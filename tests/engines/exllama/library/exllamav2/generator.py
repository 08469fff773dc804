"""exllamav2.generator, as far as it is called."""

from __future__ import annotations

from typing import Any

import torch
from words import Echo, Job, record


class ExLlamaV2DynamicGenerator(Echo):
    def __init__(
        self,
        model: Any,
        cache: Any,
        tokenizer: Any,
        max_batch_size: int | None = None,
        max_chunk_size: int | None = None,
        draft_model: Any = None,
        draft_cache: Any = None,
        num_draft_tokens: int = 4,
        use_ngram_draft: bool = False,
    ) -> None:
        record("Generator", batch=max_batch_size, draft=draft_model, ngram=use_ngram_draft or None)
        super().__init__(max_batch_size or 16)

    def set_loras(self, loras: list[Any] | None) -> None:
        record("set_loras", count=len(loras or ()))


class SeqTensor:
    def __init__(self, job: Job) -> None:
        self.job = job

    def torch(self) -> torch.Tensor:
        return torch.tensor([self.job.text], dtype=torch.long)


class Sequence:
    def __init__(self, job: Job) -> None:
        self.sequence_ids = SeqTensor(job)


class ExLlamaV2DynamicJob(Job):
    def __init__(
        self,
        input_ids: Any,
        max_new_tokens: int,
        stop_conditions: list[int] | None = None,
        decode_special_tokens: bool = False,
    ) -> None:
        record("Job", ends=stop_conditions)
        super().__init__(input_ids, max_new_tokens, stop_conditions or [])
        self.sequences = [Sequence(self)]

    def receive_logits(self, logits: torch.Tensor) -> tuple[torch.Tensor, None, None, None, bool]:
        raise AssertionError("the library's own sampler was asked")
