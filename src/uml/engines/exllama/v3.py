"""ExLlamaV3 (exllamav3 1.6.5): every call of that library is here. Imported in the worker only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from uml.core.errors import BadRequest
from uml.core.plan import LoadPlan
from uml.engines.exllama import meaning
from uml.engines.exllama.host import Wanted
from uml.engines.exllama.runner import Generator
from uml.sampling.settings import Settings

NGRAM_MATCH: Final = 3
"""Tokens that must be the same before `ngram-simple` guesses on: the least that the library's own tools take."""
WHOLE: Final = 10**7
"""`sustain_range` for the whole context: the library's default."""


class Library3:
    """A model of ExLlamaV3."""

    def __init__(self) -> None:
        # Imported here: the gateway must never see it, it compiles CUDA kernels when it is imported.
        import exllamav3
        import torch

        self._lib: Any = exllamav3
        self._torch: Any = torch
        self._models: list[Any] = []
        self._loras: list[Any] = []

    def load(self, plan: LoadPlan, told: Callable[[int, int], None]) -> Generator:
        """As `Library.load`: the draft model first, for the place that is left depends on it."""
        lib, options = self._lib, plan.options
        config = lib.Config.from_directory(str(plan.model.info.path))
        model = lib.Model.from_config(config)
        cache = self._cache(model, plan)
        draft, draft_cache = self._draft(plan)
        spread = meaning.gib_on_each(plan)
        where: dict[str, Any] = {"use_per_device": spread} if spread else {}
        if meaning.tensor_parallel(plan):
            where["tensor_p"] = True
        elif len(meaning.gpus(plan)) == 1 and not spread:
            where["device"] = "cuda:0"
        if draft is not None and "tensor_p" not in where and "device" not in where:
            where["draft_model"] = draft
        size = {"max_chunk_size": meaning.chunk(options), "max_batch_size": max(1, options.parallel)}
        model.load(**where, **size, callback=told)
        self._models.append(model)
        for adapter in options.lora:
            path, scale = meaning.scaled(adapter)
            self._loras.append(self._lora(model, path, scale))
        self._config, self.tokenizer = config, lib.Tokenizer.from_config(config)
        guessing = {"draft_model": draft, "draft_cache": draft_cache, "num_draft_tokens": options.draft_max}
        ngram = {"ngram_match_min": NGRAM_MATCH, "num_draft_tokens": options.draft_max}
        more = guessing if draft is not None else ngram if options.spec_type == "ngram-simple" else {}
        generator: Generator = lib.Generator(model=model, cache=cache, tokenizer=self.tokenizer, **size, **more)
        return generator

    def _cache(self, model: Any, plan: LoadPlan) -> Any:
        keys, values = meaning.cache_bits(plan.options)
        size = {"max_num_tokens": meaning.cache_tokens(plan.options), "max_batch_size": max(1, plan.options.parallel)}
        if keys == meaning.FULL:
            return self._lib.Cache(model, layer_type=self._lib.CacheLayer_fp16, **size)
        return self._lib.Cache(model, layer_type=self._lib.CacheLayer_quant, k_bits=keys, v_bits=values, **size)

    def _draft(self, plan: LoadPlan) -> tuple[Any, Any]:
        """The draft model with its cache, loaded on the first GPU; None for both where there is none."""
        if not plan.options.draft_model:
            return None, None
        lib = self._lib
        draft = lib.Model.from_config(lib.Config.from_directory(plan.options.draft_model))
        cache = lib.Cache(draft, max_num_tokens=meaning.cache_tokens(plan.options))
        draft.load(device="cuda:0")
        self._models.append(draft)
        return draft, cache

    def _lora(self, model: Any, path: str, scale: float) -> Any:
        from exllamav3.model.lora import LoRA

        return LoRA.from_directory(model, path, lora_scaling=scale)

    def job(self, wanted: Wanted) -> Any:
        """As `Library.job`."""
        settings = wanted.settings
        ends = () if settings.ignore_eos else tuple(self._config.eos_token_id_list)
        return self._lib.Job(
            input_ids=self._torch.tensor([wanted.tokens], dtype=self._torch.long),
            max_new_tokens=wanted.most,
            min_new_tokens=settings.min_tokens,
            sampler=self._lib.CustomSampler(self.steps(settings)),
            seed=None if settings.seed < 0 else settings.seed,
            stop_conditions=list(ends),
            decode_special_tokens=True,
            filters=[self._filter(*wanted.guide)] if wanted.guide else None,
            banned_strings=list(settings.banned_strings) or None,
        )

    def steps(self, settings: Settings) -> list[Any]:
        """The library's sampling steps, penalties first, as they must be, then truncation, then the choice."""
        lib, window = self._lib, settings.repetition_penalty_range
        reach = WHOLE if window < 0 else window
        found = []
        if settings.logit_bias:
            found.append(lib.SS_LogitBias(dict(meaning.biases(settings, self.size()))))
        if reach:
            found += [
                lib.SS_RepP(settings.repetition_penalty, reach, 0),
                lib.SS_PresFreqP(settings.presence_penalty, settings.frequency_penalty, reach, 0),
            ]
        if settings.dry_multiplier > 0 and settings.dry_penalty_last_n:
            # There 0 is the whole context, here it is -1.
            reach = max(0, settings.dry_penalty_last_n)
            found.append(lib.SS_DRY(settings.dry_multiplier, settings.dry_base, settings.dry_allowed_length, reach))
        if settings.temperature == 0 or settings.top_k == 1:
            return [*found, lib.SS_Argmax()]
        heat = [lib.SS_Temperature(settings.temperature)]
        found += [] if settings.temperature_last else heat
        found.append(lib.SS_MinP(settings.min_p))
        found.append(lib.SS_TopK(max(0, settings.top_k)))
        found.append(lib.SS_TopP(settings.top_p))
        if settings.xtc_probability > 0:
            found.append(lib.SS_XTC(settings.xtc_probability, settings.xtc_threshold, tokenizer=self.tokenizer))
        found += heat if settings.temperature_last else []
        adaptive = 0 < settings.adaptive_target < 1
        last = lib.SS_AdaptiveP(settings.adaptive_target, settings.adaptive_decay) if adaptive else lib.SS_Sample()
        return [*found, last]

    def _filter(self, kind: str, text: str) -> Any:
        """What keeps an answer to a structure. Raises BadRequest for one that cannot be compiled."""
        name = {"json_schema": "json_schema", "regex": "regex", "grammar": "gbnf_grammar", "llguidance": "llg_grammar"}
        try:
            return self._lib.LLGuidanceFilter(self.tokenizer, eos_after_completed=True, **{name[kind]: text})
        except ValueError as error:
            raise BadRequest(f"{kind}: {error}", param=kind) from error

    def check(self, job: Any) -> None:
        """As `Library.check`: what its own filter cannot follow ends its step."""

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
        for lora in self._loras:
            lora.unload()
        for model in self._models:
            model.unload()
