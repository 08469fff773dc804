"""ExLlamaV2 (exllamav2 0.3.2), for EXL2: every call of that library is here. Imported in the worker only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from uml.core.plan import LoadPlan
from uml.engines.exllama import meaning
from uml.engines.exllama.chooser import Chooser
from uml.engines.exllama.host import Wanted
from uml.engines.exllama.language import vocabulary_of
from uml.engines.exllama.runner import Generator
from uml.engines.exllama.structure import Structurer

CACHES: Final = {
    meaning.FULL: "ExLlamaV2Cache",
    8: "ExLlamaV2Cache_Q8",
    6: "ExLlamaV2Cache_Q6",
    4: "ExLlamaV2Cache_Q4",
}


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
        folder = plan.model.info.path
        # A model may score more than there is; what has no text would make the library fail.
        known = min(self.size(), int(self.tokenizer.actual_vocab_size))
        self.vocabulary = vocabulary_of(folder, known, self._ends(), self._encode, self._texts)
        self._structurer = Structurer(folder, self.vocabulary)
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

    def job(self, wanted: Wanted) -> tuple[Any, Chooser]:
        """As `Library.job`: the library's own sampler is never asked.

        It would get the same scores in the same place, for they are in the machine's memory before it sees them.
        """
        # Banned texts are the chain's too: the library goes back where one has come, but tells of tokens that it took
        # back, and not to who verifies a guess.
        guide = self._structurer.guide(*wanted.guide) if wanted.guide else None
        chooser = Chooser(wanted.settings, self.vocabulary, wanted.tokens, guide)
        job = self._generator.ExLlamaV2DynamicJob(
            input_ids=self._torch.tensor([wanted.tokens], dtype=self._torch.long),
            max_new_tokens=wanted.most,
            stop_conditions=sorted(self.vocabulary.ends),
            decode_special_tokens=True,
        )
        # The generator asks the job for every token, and the job a static method of the library, which has no place for
        # samplers of others: its filters come before its own samplers, its hooks are called by nobody.
        job.receive_logits = Receiver(job, chooser, self._torch)
        return job, chooser

    def _ends(self) -> set[int]:
        more = (getattr(self._config, "generation_config", None) or {}).get("eos_token_id") or ()
        return {self.tokenizer.eos_token_id, *more}

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
        for model in self._models:
            model.unload()


class Receiver:
    """What stands in the place of a job's `receive_logits`: scores in, a token out."""

    def __init__(self, job: Any, chooser: Chooser, torch: Any) -> None:
        self._job, self._chooser, self._torch = job, chooser, torch

    def __call__(self, logits: Any) -> tuple[Any, None, None, None, bool]:
        """logits: `[1, 1, vocabulary]`. The token `[1, 1]`; no likely tokens, no probabilities, no end of a filter."""
        answer = self._job.sequences[0].sequence_ids.torch()[0, self._chooser.prompt :].numpy()
        token = self._chooser.choose(logits[0, 0].numpy(), answer)
        return self._torch.tensor([[token]], dtype=self._torch.long), None, None, None, False
