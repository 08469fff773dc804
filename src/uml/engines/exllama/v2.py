"""ExLlamaV2 (exllamav2 0.3.2), for EXL2: every call of that library is here. Imported in the worker only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from uml.core.errors import BadRequest
from uml.core.plan import LoadPlan
from uml.engines.exllama import meaning
from uml.engines.exllama.host import Wanted
from uml.engines.exllama.runner import Generator
from uml.engines.exllama.structure import Filter, Structurer
from uml.sampling.settings import Settings

CACHES: Final = {
    meaning.FULL: "ExLlamaV2Cache",
    8: "ExLlamaV2Cache_Q8",
    6: "ExLlamaV2Cache_Q6",
    4: "ExLlamaV2Cache_Q4",
}
PADDED: Final = 32
"""Tokens to whose multiple it pads a vocabulary (`ExLlamaV2Sampler.Settings.disallow_tokens`)."""
NAMES: Final = {"llguidance": "tool_choice"}
"""Parameters by the kinds of `Wanted.guide`, where these are not called alike."""


class Library2:
    """A model of ExLlamaV2."""

    def __init__(self) -> None:
        # Imported here: the gateway must never see them, they compile CUDA kernels when they are imported.
        import exllamav2
        import exllamav2.generator
        import torch

        self._lib: Any = exllamav2
        self._generator: Any = exllamav2.generator
        self._torch: Any = torch
        self._models: list[Any] = []

    def load(self, plan: LoadPlan, told: Callable[[int, int], None]) -> Generator:
        """As `Library.load`."""
        lib, options = self._lib, plan.options
        model, config = self._model(str(plan.model.info.path), plan)
        if meaning.tensor_parallel(plan):
            kind = self._kind(plan)
            spread = meaning.gib_on_each(plan) or None
            tokens = meaning.cache_tokens(options)
            model.load_tp(gpu_split=spread, callback=told, expect_cache_tokens=tokens, expect_cache_base=kind)
            cache = lib.ExLlamaV2Cache_TP(model, base=kind, max_seq_len=tokens)
        elif spread := meaning.gib_on_each(plan):
            model.load(gpu_split=spread, callback=told)
            cache = self._kind(plan)(model, max_seq_len=meaning.cache_tokens(options))
        else:
            cache = self._kind(plan)(model, max_seq_len=meaning.cache_tokens(options), lazy=True)
            model.load_autosplit(cache, callback=told)
        self._models.append(model)
        self._config, self.tokenizer = config, lib.ExLlamaV2Tokenizer(config)
        self._structurer = Structurer(Path(plan.model.info.path), self.size(), self._ends(), self._torch)
        more: dict[str, Any] = {}
        if options.draft_model:
            draft, _ = self._model(options.draft_model, plan)
            draft_cache = lib.ExLlamaV2Cache(draft, max_seq_len=meaning.cache_tokens(options), lazy=True)
            draft.load_autosplit(draft_cache)
            self._models.append(draft)
            more = {"draft_model": draft, "draft_cache": draft_cache, "num_draft_tokens": options.draft_max}
        elif options.spec_type == "ngram-simple":
            more = {"use_ngram_draft": True, "num_draft_tokens": options.draft_max}
        generator: Any = self._generator.ExLlamaV2DynamicGenerator(
            model=model,
            cache=cache,
            tokenizer=self.tokenizer,
            max_batch_size=max(1, options.parallel),
            max_chunk_size=meaning.chunk(options),
            **more,
        )
        if options.lora:
            adapters = [meaning.scaled(adapter) for adapter in options.lora]
            generator.set_loras([lib.ExLlamaV2Lora.from_directory(model, path, scale) for path, scale in adapters])
        found: Generator = generator
        return found

    def _model(self, folder: str, plan: LoadPlan) -> tuple[Any, Any]:
        config = self._lib.ExLlamaV2Config(folder)
        config.max_seq_len = plan.options.ctx
        config.max_input_len = meaning.chunk(plan.options)
        return self._lib.ExLlamaV2(config), config

    def _kind(self, plan: LoadPlan) -> Any:
        return getattr(self._lib, CACHES[meaning.cache_bits(plan.options)[0]])

    def job(self, wanted: Wanted) -> Any:
        """As `Library.job`."""
        settings, guide = wanted.settings, wanted.guide
        if settings.mirostat_mode == 1:
            raise BadRequest(
                "mirostat_mode is 1; ExLlamaV2 has the second version: expected 0 or 2", param="mirostat_mode"
            )
        if guide and settings.banned_strings:
            raise BadRequest(
                f"banned_strings and {NAMES.get(guide[0], guide[0])} exclude each other with ExLlamaV2; give one",
                param="banned_strings",
            )
        # Where a structure is whole only an end may come.
        ends = [] if settings.ignore_eos and not guide else sorted(self._ends())
        chosen = self._generator.ExLlamaV2Sampler.Settings(**sampling(settings))
        if settings.logit_bias:
            chosen.token_bias = self._biases(settings)
        return self._generator.ExLlamaV2DynamicJob(
            input_ids=self._torch.tensor([wanted.tokens], dtype=self._torch.long),
            max_new_tokens=wanted.most,
            min_new_tokens=settings.min_tokens,
            gen_settings=chosen,
            seed=None if settings.seed < 0 else settings.seed,
            stop_conditions=ends,
            decode_special_tokens=True,
            banned_strings=list(settings.banned_strings) or None,
            filters=[self._structurer.filter(*guide)] if guide else None,
        )

    def _ends(self) -> set[int]:
        more = (getattr(self._config, "generation_config", None) or {}).get("eos_token_id") or ()
        return {self.tokenizer.eos_token_id, *more}

    def _biases(self, settings: Settings) -> Any:
        """One number a token, as wide as the library pads its vocabulary."""
        size = self.size()
        found = self._torch.zeros(size + -size % PADDED, dtype=self._torch.float)
        for token, amount in meaning.biases(settings, size):
            found[token] += amount
        return found

    def check(self, job: Any) -> None:
        """As `Library.check`."""
        for one in job.filters or ():
            if isinstance(one, Filter) and one.failed is not None:
                raise one.failed

    def encode(self, text: str, *, begin: bool) -> list[int]:
        """As `Library.encode`."""
        return [int(token) for token in self.tokenizer.encode(text, add_bos=begin, encode_special_tokens=True)[0]]

    def decode(self, tokens: Sequence[int]) -> str:
        """As `Library.decode`."""
        ids = self._torch.tensor([list(tokens)], dtype=self._torch.long)
        text: str = self.tokenizer.decode(ids, decode_special_tokens=True)[0]
        return text

    def size(self) -> int:
        """As `Library.size`."""
        return int(self._config.vocab_size)

    def close(self) -> None:
        """As `Library.close`."""
        for model in self._models:
            model.unload()


def sampling(settings: Settings) -> dict[str, Any]:
    """The fields of `ExLlamaV2Sampler.Settings`; 0 is off where the library has it so."""
    greedy = settings.temperature == 0
    return {
        "temperature": 1.0 if greedy else settings.temperature,
        "temperature_last": settings.temperature_last,
        "top_k": 1 if greedy else max(0, settings.top_k),
        "top_p": 0.0 if greedy or settings.top_p >= 1 else settings.top_p,
        "min_p": settings.min_p,
        "top_a": settings.top_a,
        "tfs": settings.tfs if 0 < settings.tfs < 1 else 0.0,
        "typical": settings.typical_p if settings.typical_p < 1 else 0.0,
        "smoothing_factor": settings.smoothing_factor,
        "token_repetition_penalty": settings.repetition_penalty if settings.repetition_penalty_range else 1.0,
        "token_repetition_range": settings.repetition_penalty_range or -1,
        "token_presence_penalty": settings.presence_penalty if settings.repetition_penalty_range else 0.0,
        "token_frequency_penalty": settings.frequency_penalty if settings.repetition_penalty_range else 0.0,
        "dry_multiplier": settings.dry_multiplier if settings.dry_penalty_last_n else 0.0,
        "dry_base": settings.dry_base,
        "dry_allowed_length": settings.dry_allowed_length,
        "dry_range": max(0, settings.dry_penalty_last_n),
        "xtc_probability": settings.xtc_probability,
        "xtc_threshold": settings.xtc_threshold,
        "mirostat": settings.mirostat_mode > 0,
        "mirostat_tau": settings.mirostat_tau,
        "mirostat_eta": settings.mirostat_eta,
    }
