"""exllamav2.generator, as far as it is called."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from words import Echo, record


class ExLlamaV2Sampler:
    @dataclass
    class Settings:
        temperature: float = 0.8
        temperature_last: bool = False
        top_k: int = 50
        top_p: float = 0.8
        min_p: float = 0
        top_a: float = 0.0
        tfs: float = 0
        typical: float = 0
        smoothing_factor: float = 0.0
        token_repetition_penalty: float = 1.025
        token_repetition_range: int = -1
        token_presence_penalty: float = 0.0
        token_frequency_penalty: float = 0.0
        dry_multiplier: float = 0.0
        dry_base: float = 1.75
        dry_allowed_length: int = 2
        dry_range: int = 0
        xtc_probability: float = 0.0
        xtc_threshold: float = 0.1
        mirostat: bool = False
        mirostat_tau: float = 1.5
        mirostat_eta: float = 0.1
        token_bias: Any = None


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


class ExLlamaV2DynamicJob:
    def __init__(
        self,
        input_ids: Any,
        max_new_tokens: int,
        min_new_tokens: int = 0,
        gen_settings: ExLlamaV2Sampler.Settings | None = None,
        seed: int | None = None,
        stop_conditions: list[int] | None = None,
        decode_special_tokens: bool = False,
        banned_strings: list[str] | None = None,
        filters: list[Any] | None = None,
    ) -> None:
        assert gen_settings is not None
        assert not (banned_strings and filters), "Cannot combine banned strings with filters"
        told = asdict(gen_settings)
        if (bias := told.pop("token_bias")) is not None:
            assert len(bias) % 32 == 0
            told["bias"] = {int(token): float(bias[token]) for token in np.flatnonzero(bias)}
        record("Job", settings=told, ends=stop_conditions, seed=seed, banned=banned_strings)
        self.input_ids, self.max_new_tokens, self.made, self.filters = input_ids, max_new_tokens, 0, filters or []

    def choose(self, token: int) -> int:
        """A token, or the first that the filters let come in its place: asked as `sampler.py` and `dynamic.py` do."""
        logits = np.zeros(1024, np.float32)
        logits[token] = 1
        for one in self.filters:
            if self.made == 2:
                one.background_drop()
                one.begin("")
            assert one.can_mask_logits() and one.get_next(mask=True) is True
            logits = one.mask_logits(logits)
        assert np.isfinite(logits).any()
        found = int(logits.argmax())
        for one in self.filters:
            assert not one.use_background_worker()
            one.feed(torch.Tensor([[found]]))
        return found
