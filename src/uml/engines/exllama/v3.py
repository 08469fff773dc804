"""ExLlamaV3 (exllamav3 1.6.5): every call of that library is here. Imported in the worker only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uml.core.errors import BadRequest
from uml.core.plan import LoadPlan
from uml.engines.exllama import meaning
from uml.engines.exllama.chooser import Chooser
from uml.engines.exllama.host import Wanted
from uml.engines.exllama.language import vocabulary_of
from uml.engines.exllama.quick import steps_of
from uml.engines.exllama.runner import Generator

NGRAM_MATCH: Final = 3
"""Tokens that must be the same before `ngram-simple` guesses on: the least that the library's own tools take."""


class Library3:
    """A model of ExLlamaV3."""

    def __init__(self) -> None:
        # Imported here: the gateway must never see it, it compiles CUDA kernels when it is imported.
        import exllamav3
        import torch
        from exllamav3.generator.sampler.custom import SS

        self._lib: Any = exllamav3
        self._torch: Any = torch
        self._done: Any = SS.DONE
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
        # A model may score more than there is; the library lets none of these come.
        known = min(self.size(), int(self.tokenizer.actual_vocab_size))
        folder, ends = plan.model.info.path, config.eos_token_id_list
        self.vocabulary = vocabulary_of(folder, known, ends, self._encode, self._texts)
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

    def job(self, wanted: Wanted) -> tuple[Any, Chooser | None]:
        """As `Library.job`: by the library's own steps where these do what is asked for, else by our chain."""
        settings, ends = wanted.settings, self.vocabulary.ends
        named = steps_of(settings, ends, guided=wanted.guide is not None)
        chooser: Chooser | None = None
        if named is not None:
            sampler = self._lib.CustomSampler([getattr(self._lib, name)(*values) for name, values in named])
        else:
            # Banned texts the generator sees to, going back where one has come.
            chooser = Chooser(replace(settings, banned_strings=()), self.vocabulary, wanted.tokens)
            sampler = Sampler(self._lib.CustomSampler, ChainStep(chooser, self._done, self._torch))
        job = self._lib.Job(
            input_ids=self._torch.tensor([wanted.tokens], dtype=self._torch.long),
            max_new_tokens=wanted.most,
            # The chain bans ends by itself, and lets them come where a structure lets nothing else.
            min_new_tokens=0 if chooser else settings.min_tokens,
            sampler=sampler,
            seed=None if settings.seed < 0 else settings.seed,
            stop_conditions=sorted(ends),
            decode_special_tokens=True,
            filters=[self._filter(*wanted.guide)] if wanted.guide else None,
            banned_strings=list(settings.banned_strings) or None,
        )
        return job, chooser

    def _filter(self, param: str, grammar: str) -> Any:
        """What keeps an answer to a structure. Raises BadRequest for one that cannot be compiled."""
        try:
            return self._lib.LLGuidanceFilter(self.tokenizer, eos_after_completed=True, llg_grammar=grammar)
        except ValueError as error:
            raise BadRequest(f"{param}: {error}", param=param) from error

    def encode(self, text: str, *, begin: bool) -> list[int]:
        """As `Library.encode`."""
        return [int(token) for token in self.tokenizer.encode(text, add_bos=begin, encode_special_tokens=True)[0]]

    def _encode(self, text: str) -> list[int]:
        return self.encode(text, begin=False)

    def _texts(self) -> list[str]:
        return list(self.tokenizer.get_id_to_piece_list(include_special_tokens=True))

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


class ChainStep:
    """Our chain as a sampling step of the library (`SS_Base`), the only one of a stack.

    done: the state of a stack that has its token.
    raw: the scores of this place before masks; None where nothing masks them. Probabilities are told by these.
    """

    raw: Any = None

    def __init__(self, chooser: Chooser, done: Any, torch: Any) -> None:
        self._chooser, self._done, self._torch = chooser, done, torch

    def run(self, state: Any) -> None:
        """Choose the token of a `SamplingState`."""
        row = _row(state.in_logits)
        # The ids of the whole text are here: by what the generator took back of it, it is shorter than it was.
        answer = state.past_ids[0, self._chooser.prompt :].cpu().numpy()
        if self.raw is None:
            token = self._chooser.choose(row, answer)
        else:
            token = self._chooser.choose(_row(self.raw), answer, row > -np.inf)
        state.sample = self._torch.tensor([[token]], dtype=self._torch.long, device=state.in_logits.device)
        state.state = self._done

    def prep(self, in_state: Any) -> None:
        """No step need come before it."""

    def alt(self) -> None:
        """There is no simpler one."""

    def reqs_past_ids(self) -> bool:
        """It needs them; with that, the generator asks for one token after the other where it guesses ahead."""
        return True

    def reqs_torch_seed(self) -> bool:
        """Its random numbers are its own."""
        return False


class Sampler:
    """A stack of the library (`CustomSampler`) with our step, which is told the scores before the masks too."""

    reqs_past_ids = True
    reqs_torch_seed = False

    def __init__(self, stack: Any, step: ChainStep) -> None:
        self._stack, self._step = stack([step]), step

    def forward(self, logits: Any, *others: Any, **named: Any) -> Any:
        """The token of `[1, 1, vocabulary]`."""
        # The masks go onto a copy of them.
        self._step.raw = logits if named.get("logit_mask") is not None else None
        return self._stack.forward(logits, *others, **named)


def _row(logits: Any) -> NDArray[np.float32]:
    """The scores of the only place that there is."""
    found: NDArray[np.float32] = logits.float().cpu().numpy().reshape(-1)
    return found
