"""exllamav3 1.6.5, as far as it is called."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import words
from words import Echo, record

from .generator.sampler.custom import *  # noqa: F403 - as the library does it


class CacheLayer_fp16: ...  # noqa: N801


class CacheLayer_quant: ...  # noqa: N801


class Config:
    vocab_size = 1000
    eos_token_id_list = (words.END,)

    @staticmethod
    def from_directory(directory: str) -> Config:
        record("Config.from_directory", directory=directory)
        words.read(directory)
        return Config()


class Model:
    @staticmethod
    def from_config(config: Config, component: str = "text") -> Model:
        return Model()

    def load(
        self,
        device: str | None = None,
        reserve_per_device: list[float] | None = None,
        use_per_device: list[float] | None = None,
        tensor_p: bool = False,
        max_chunk_size: int = 2048,
        callback: Callable[[int, int], None] | None = None,
        tp_backend: str = "native",
        max_batch_size: int = 1,
        draft_model: Model | None = None,
    ) -> None:
        assert not (device and (use_per_device or tensor_p)), "Cannot use tensor_p when loading to single device."
        record("Model.load", device=device, use_per_device=use_per_device, tensor_p=tensor_p or None,
               max_chunk_size=max_chunk_size, max_batch_size=max_batch_size, draft_model=draft_model)  # fmt: skip
        if callback:
            callback(1, 2)
            callback(2, 2)

    def unload(self) -> None:
        record("Model.unload")


class Cache:
    def __init__(
        self,
        model: Model,
        max_num_tokens: int,
        layer_type: type | None = None,
        max_batch_size: int = 16,
        max_history: int = 0,
        **quantized: int,
    ) -> None:
        assert max_num_tokens % 256 == 0
        assert set(quantized) == ({"k_bits", "v_bits"} if layer_type is CacheLayer_quant else set())
        record("Cache", tokens=max_num_tokens, layers=layer_type and layer_type.__name__, **quantized)


class Tokenizer(words.Tokenizer):
    @staticmethod
    def from_config(config: Config) -> Tokenizer:
        return Tokenizer()


class Generator(Echo):
    def __init__(
        self,
        model: Model,
        cache: Cache,
        tokenizer: Tokenizer,
        max_batch_size: int = 256,
        max_chunk_size: int = 2048,
        draft_model: Model | None = None,
        draft_cache: Cache | None = None,
        num_draft_tokens: int | None = None,
        ngram_match_min: int = 0,
    ) -> None:
        assert (draft_model is None) == (draft_cache is None)
        assert max_chunk_size % 256 == 0
        record("Generator", max_batch_size=max_batch_size, max_chunk_size=max_chunk_size, draft_model=draft_model,
               num_draft_tokens=num_draft_tokens, ngram_match_min=ngram_match_min or None)  # fmt: skip
        super().__init__(max_batch_size)


class LLGuidanceFilter:
    def __init__(
        self,
        tokenizer: Tokenizer,
        eos_after_completed: bool = False,
        json_schema: str | None = None,
        regex: str | None = None,
        lark_grammar: str | None = None,
        gbnf_grammar: str | None = None,
        llg_grammar: str | None = None,
    ) -> None:
        given = {"json_schema": json_schema, "regex": regex, "gbnf": gbnf_grammar, "llg": llg_grammar}
        (self.told,) = [(name, text) for name, text in given.items() if text is not None]
        if "(((" in self.told[1]:
            raise ValueError("regex parse error: unclosed group")


class Job(words.Job):
    def __init__(
        self,
        input_ids: Any,
        max_new_tokens: int | None = None,
        min_new_tokens: int = 0,
        sampler: Any = None,
        seed: int | None = None,
        stop_conditions: list[int] | None = None,
        decode_special_tokens: bool = False,
        filters: list[LLGuidanceFilter] | None = None,
        banned_strings: list[str] | None = None,
    ) -> None:
        assert sampler is not None
        assert max_new_tokens is not None
        limits = {"most": max_new_tokens, "least": min_new_tokens, "seed": seed, "ends": stop_conditions}
        guides = [one.told for one in filters or ()]
        record("Job", tokens=input_ids[0].tolist(), guides=guides, banned=banned_strings, **limits)
        super().__init__(input_ids, max_new_tokens, stop_conditions or [], banned_strings)
        self.sampler, self.min_new_tokens, self.rng = sampler, min_new_tokens, random.Random(seed)

    def logit_mask(self) -> torch.Tensor | None:
        blocked = self.blocked() + (self.ends if self.new_tokens < self.min_new_tokens else [])
        if not blocked:
            return None
        mask = np.zeros((1, 1024), np.float16)
        mask[:, blocked] = -np.inf
        return mask.view(torch.Tensor)

    def receive_logits(self, logits: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        past = torch.tensor([self.text], dtype=torch.long) if self.sampler.reqs_past_ids else None
        rand_u32, mask = self.rng.randint(0, (1 << 32) - 1), self.logit_mask()
        return self.sampler.forward(logits, past, rand_u32, Tokenizer(), logit_mask=mask), None, None, None
