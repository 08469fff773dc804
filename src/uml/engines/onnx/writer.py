"""Text from a folder of ONNX Runtime GenAI: the child's side."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from uml.core.errors import BadRequest
from uml.core.host import Delta
from uml.core.plan import LoadPlan
from uml.engines.hosted import tools
from uml.engines.hosted.answer import Teller
from uml.engines.hosted.text import decode
from uml.engines.onnx.adapters import Adapters
from uml.engines.onnx.causes import cause, failure
from uml.engines.onnx.feed import Feed
from uml.engines.onnx.graph import folding
from uml.engines.onnx.language import check_ids, language_of
from uml.engines.onnx.native import Generator, Library, Model, NativeError
from uml.engines.onnx.runner import Answer, Runner
from uml.engines.onnx.slots import Slots
from uml.sampling.chain import Chain
from uml.sampling.foreign import opened
from uml.sampling.grammar import Structures

CONFIG: Final = "genai_config.json"
FALLBACK_CONTEXT: Final = 2048


class Writer:
    """A loaded model that generates text. Raises an UmlError where it cannot be loaded."""

    def __init__(self, plan: LoadPlan) -> None:
        options, folder = plan.options, plan.model.info.path
        config = json.loads((folder / CONFIG).read_text("utf-8"))["model"]
        trained = config.get("context_length") or FALLBACK_CONTEXT
        self._plan = plan
        # Longer than that the library refuses.
        self._context = min(options.ctx or trained, trained)
        ends = config.get("eos_token_id")
        ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        language = language_of(folder, ends, config["vocab_size"], options)
        self._language = replace(language, samplers=opened(plan.samplers))
        self._structures = Structures(self._language.vocabulary)
        self._fast = False
        """Whether the last answer's tokens came faster than anybody reads."""
        threads = options.threads or len(os.sched_getaffinity(0))
        # A pattern is a block of memory for each shape of input that comes twice, kept beside what its parts were taken
        # from before: half as much again, and no faster.
        graph = folder / config["decoder"]["filename"]
        session = {"intra_op_num_threads": threads, "enable_mem_pattern": False, **folding(graph)}
        overlay = {"model": {"decoder": {"session_options": session}}}
        try:
            self._model = Model(Library(), folder, overlay)
            if options.warmup:
                self._warm_up()
        except NativeError as error:
            raise cause(plan, str(error)) from error
        count = max(1, options.parallel)
        self._slots = Slots(self._model, count, self._context, options.slot_similarity)
        self._runner = Runner(self._slots, count, options.batch, lambda text: failure(plan, text))
        self._adapters = Adapters(self._model, self._slots)
        for adapter in options.lora:
            path, sign, scale = adapter.rpartition("=")
            self._adapters.load(path if sign else adapter, float(scale) if sign else 1.0)

    def _warm_up(self) -> None:
        """One token, so that what the library makes at the first run is there."""
        generator = Generator(self._model, 2)
        try:
            generator.append((0,))
        finally:
            generator.close()

    async def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """As `Host.generate`."""
        # A long prompt takes the tokenizer a while, and a large schema its compiler.
        answer, teller = await asyncio.to_thread(self._prepare, request, asyncio.get_running_loop())
        self._adapters.hold(answer.adapter)
        self._runner.submit(answer, partial(self._adapters.let_go, answer.adapter))
        try:
            finished = False
            while not finished:
                delta = teller.tell(await answer.feed.take())
                finished = delta.finish is not None
                yield delta
        finally:
            answer.leave()
            self._fast = answer.feed.fast

    def _prepare(self, request: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> tuple[Answer, Teller]:
        language = self._language
        ask = language.ask(request, self._context)
        if ask.guidance and self._plan.options.parallel < 2:
            told = "guidance_scale needs a second slot, for what is led away from; load this model with parallel=2"
            raise BadRequest(told, param="guidance_scale")
        forced = tools.grammar(request, language.marks)
        answer = Answer(
            prompt=ask.tokens,
            most=ask.most,
            chain=Chain(ask.settings, language.vocabulary, ask.tokens),
            ends=language.vocabulary.ends,
            feed=Feed(loop, fast=self._fast),
            guide=self._structures.guide("tool_choice", forced) if forced else self._structures.of(request),
            adapter=self._adapters.of(request),
            guidance=ask.guidance,
            reuse=self._plan.options.cache_prompt and request.get("cache_prompt") is not False,
        )
        return answer, language.teller(request, ask)

    def prompt(self, request: Mapping[str, Any]) -> str:
        """What a chat request makes the model read. Raises BadRequest."""
        return self._language.prompt(request)

    def tokenize(self, text: str) -> list[int]:
        """As `Host.tokenize`."""
        return self._language.vocabulary.tokens_of(text)

    def detokenize(self, tokens: list[int]) -> str:
        """As `Host.detokenize`."""
        pieces = self._language.vocabulary.pieces
        check_ids(tokens, len(pieces))
        return decode(pieces, tokens)

    def embed(self, texts: list[str]) -> list[list[float]]:
        """It has no vectors. Raises BadRequest."""
        told = f"{self._plan.model.id} generates text and makes no embeddings; load an embedding model"
        raise BadRequest(told, param="model")

    def adapters(self) -> list[dict[str, Any]]:
        """As `SwapsAdapters.adapters`."""
        return self._adapters.shown()

    def load_adapter(self, path: str, scale: float) -> int:
        """As `SwapsAdapters.load_adapter`."""
        return self._adapters.load(path, scale)

    def unload_adapter(self, id: int) -> None:
        """As `SwapsAdapters.unload_adapter`."""
        self._adapters.unload(id)

    def scale_adapters(self, scales: Mapping[int, float]) -> None:
        """As `SwapsAdapters.scale_adapters`."""
        self._adapters.scale(scales)

    def close(self) -> None:
        """Give everything back, when the answers that run have ended."""
        self._runner.close()
        self._slots.close()
        self._model.close()
