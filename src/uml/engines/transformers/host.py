"""Transformers from the child's side: one loaded model that answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from uml.core.errors import BadRequest, EngineError, OutOfMemory, UmlError
from uml.core.host import Classes, Delta
from uml.core.model import READERS, Role
from uml.core.plan import LoadPlan
from uml.engines.hosted import tools
from uml.engines.hosted.prompt import Language
from uml.engines.hosted.text import decode
from uml.engines.transformers import beams, loading
from uml.engines.transformers.adapters import Adapters, parse
from uml.engines.transformers.alone import Alone
from uml.engines.transformers.answer import Answer
from uml.engines.transformers.draft import guesser_of, no_guesser
from uml.engines.transformers.embedding import Embedder
from uml.engines.transformers.judging import Judge
from uml.engines.transformers.language import language_of
from uml.engines.transformers.packed import Packing, helps
from uml.engines.transformers.room import Room
from uml.engines.transformers.runner import Runner
from uml.engines.transformers.sight import SeeingLanguage, Seen, Sight, pictures_of, sight_of
from uml.engines.transformers.step import Stepper, can_step
from uml.engines.transformers.turns import Turns
from uml.sampling.chain import Chain
from uml.sampling.foreign import opened
from uml.sampling.grammar import Structures

FALLBACK_CONTEXT = 2048


class TransformersHost:
    """The child's side."""

    def __init__(self) -> None:
        self._plan: LoadPlan
        self._model: Any = None
        self._language: Language
        self._structures: Structures
        self._adapters: Adapters
        self._embedder: Embedder
        self._judge: Judge | None = None
        self._runs: Runner | Alone | None = None
        self._packing: Packing | None = None
        self._sees: Alone | None = None
        self._sight: Sight | str = ""
        self._turns = Turns()
        self._context = FALLBACK_CONTEXT

    def load(self, plan: LoadPlan) -> None:
        """Load the model; raises an UmlError."""
        options = plan.options
        if options.threads:
            torch.set_num_threads(options.threads)
        loaded = loading.load(plan)
        self._plan, self._model = plan, loaded.model
        self._sight = sight_of(loaded.model, loaded.folder, code=loaded.code)
        marks = {"image": self._sight.mark, "template": self._sight.template} if isinstance(self._sight, Sight) else {}
        language = language_of(loaded.model, loaded.tokenizer, options, **marks)
        self._language = replace(language, samplers=opened(plan.samplers))
        self._structures = Structures(self._language.vocabulary)
        self._adapters = Adapters(loaded.model)
        if self._embeds:
            self._embedder = Embedder(plan, loaded.model, loaded.tokenizer)
        if plan.model.info.role in READERS and plan.model.info.role is not Role.EMBEDDING:
            self._judge = Judge(loaded.model, loaded.tokenizer)
        for text in options.lora:
            self._adapters.load(*parse(text))
        self._context = options.ctx or plan.model.info.context_length or FALLBACK_CONTEXT
        self._runs = self._runner()
        # Rows hold one answer's tokens each; what pixels of a prompt add to these, beams and a second text have no
        # place there.
        alone = self._runs if isinstance(self._runs, Alone) else None
        self._sees = alone or self._alone(batch=0 if isinstance(self._sight, Sight) else options.batch)
        if not isinstance(self._runs, Runner):
            return
        if options.warmup:
            # After the model is ready: who comes first waits for it, and nobody else does.
            self._runs.warm_up()
            self._runs.when_idle(self._structures.prepare)
        # Code of a model's own may read weights in ways that nobody knows.
        if options.repack and not loaded.code and helps(loaded.model.dtype):
            self._packing = Packing(loaded.model, self._runs.between_steps, torch.get_num_threads())

    @property
    def _embeds(self) -> bool:
        return self._plan.options.embeddings or self._plan.model.info.role is Role.EMBEDDING

    def _runner(self) -> Runner | Alone:
        model, options = self._model, self._plan.options
        if self._plan.model.info.role in READERS or not can_step(model):
            no_guesser(options)
            return self._alone(rows=False)
        rows = max(1, options.parallel)
        stepper = Stepper(model, rows, self._context)
        guesser = guesser_of(self._plan, len(self._language.vocabulary), self._context)
        return Runner(
            *(stepper, rows, options.batch, self._translate),
            adapts=self._adapters,
            guesser=guesser,
            reuse=options.cache_prompt,
            turns=self._turns,
        )

    def _alone(self, *, rows: bool = True, batch: int = 0) -> Alone:
        room = Room(self._plan, self._model, rows=rows, batch=batch)
        return Alone(self._model, self._translate, room, self._adapters, self._turns, batch)

    def _translate(self, error: Exception) -> UmlError:
        """An error in the middle of an answer."""
        model, said = self._plan.model.id, f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in said:
            return OutOfMemory(model, self._plan.placement.device)
        return EngineError(model, said.splitlines()[0][:400])

    async def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """The answer to a request, piece by piece."""
        if self._plan.model.info.role in READERS:
            what = {Role.EMBEDDING: "embeddings", Role.RERANKER: "reranking"}.get(self._plan.model.info.role, "labels")
            raise BadRequest(f"this model is for {what}; it does not answer", param="model")
        assert self._runs is not None
        # A long prompt takes the tokenizer a while, and a large schema its compiler.
        answer, teller = await asyncio.to_thread(self._prepare, request, asyncio.get_running_loop())
        alone = answer.inputs or answer.beams or answer.guidance
        runs = self._sees if self._sees is not None and alone else self._runs
        self._adapters.hold(answer.scales)
        runs.submit(answer)
        try:
            async for delta in teller.follow(answer.news):
                yield delta
        finally:
            answer.gone = True
            for id in self._adapters.let_go(answer.scales):
                self._runs.between_steps(partial(self._adapters.drop, id))

    def _prepare(self, request: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> tuple[Answer, Any]:
        pictures, language, seen = pictures_of(request), self._language, None
        if pictures:
            if isinstance(self._sight, str):
                raise BadRequest(f"{pictures[0].where} is an image, and {self._sight}", param=pictures[0].where)
            seen = Seen(self._sight, pictures)
            language = SeeingLanguage.of(language, seen)
        ask = language.ask(request, self._context)
        searched = beams.of(request, ask.settings)
        ask = replace(ask, settings=beams.told(request, ask.settings, searched))
        forced = tools.grammar(request, self._language.marks)
        guide = self._structures.guide("tool_choice", forced) if forced else self._structures.of(request)
        if searched and guide:
            raise BadRequest("num_beams follows no structure: no schema, grammar or forced tool", param="num_beams")
        if ask.guidance and (cause := self._unguided(searched=searched is not None, seen=seen is not None)):
            raise BadRequest(f"guidance_scale has no effect {cause}; leave it out", param="guidance_scale")
        answer = Answer(
            prompt=ask.tokens,
            most=ask.most,
            chain=Chain(ask.settings, self._language.vocabulary, ask.tokens),
            ends=self._language.vocabulary.ends,
            loop=loop,
            guide=guide,
            scales=self._adapters.of(request),
            inputs=seen.inputs if seen else {},
            beams=searched,
            guidance=ask.guidance,
            reuse=request.get("cache_prompt", True) is not False,
        )
        return answer, self._language.teller(request, ask)

    def _unguided(self, *, searched: bool, seen: bool) -> str:
        """Why an answer cannot be guided; empty where it can."""
        if not isinstance(self._runs, Runner):
            return "on this model: it is recurrent or has an encoder, and cannot read a second text beside the prompt"
        return "on a search by beams" if searched else "on prompts with images" if seen else ""

    def prompt(self, request: Mapping[str, Any]) -> str:
        """What a chat request makes the model read."""
        return self._language.prompt(request)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self._language.vocabulary.tokens_of(text)

    def detokenize(self, tokens: list[int]) -> str:
        """The text of token ids. Raises BadRequest."""
        pieces = self._language.vocabulary.pieces
        wrong = next((token for token in tokens if not 0 <= token < len(pieces)), None)
        if wrong is not None:
            raise BadRequest(f"token {wrong} is none; expected ids from 0 to {len(pieces) - 1}", param="tokens")
        return decode(pieces, tokens)

    def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector a text. Raises BadRequest."""
        if not self._embeds:
            raise BadRequest("this model was loaded without embeddings; load it with embeddings=true", param="input")
        assert self._runs is not None

        def work() -> list[list[float]]:
            self._adapters.use([])
            return self._embedder.embed(texts, self._context)

        return self._runs.between_steps(work).result()

    def classes(self) -> Classes | None:
        """The labels of a model that sorts texts."""
        return self._judge.classes if self._judge else None

    def score(self, texts: Sequence[str | tuple[str, str]]) -> tuple[list[list[float]], int]:
        """A score for each label of each text, and how many tokens were read. Raises ContextLengthExceeded."""
        assert self._runs is not None
        judge = self._judge
        assert judge is not None
        budget = max(self._context, self._plan.options.batch)
        return self._runs.between_steps(lambda: judge.score(texts, self._context, budget)).result()

    def adapters(self) -> list[dict[str, Any]]:
        """What is loaded."""
        return self._adapters.shown()

    def load_adapter(self, path: str, scale: float) -> int:
        """Load another one: its id. Raises BadOption."""
        assert self._runs is not None
        return self._runs.between_steps(lambda: self._adapters.load(path, scale)).result()

    def unload_adapter(self, id: int) -> None:
        """Take one out; answers that have it keep it to their end. Raises BadRequest."""
        assert self._runs is not None
        if self._adapters.leave(id):
            self._runs.between_steps(lambda: self._adapters.drop(id)).result()

    def scale_adapters(self, scales: Mapping[int, float]) -> None:
        """What requests get that give no scales themselves."""
        self._adapters.scale(scales)

    def close(self) -> None:
        """Give everything back: the end of the process does, as soon as no step runs any more."""
        if self._packing is not None:
            self._packing.close()
        for runs in (self._runs, self._sees):
            if runs is not None:
                runs.close()
