"""Text from a folder of ONNX Runtime GenAI: the child's side."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.engine import Delta
from uml.core.errors import BadRequest, ContextLengthExceeded
from uml.core.plan import LoadPlan
from uml.engines.hosted.answer import Teller
from uml.engines.hosted.speech import Reader, wants_tools
from uml.engines.onnx.causes import cause, failure
from uml.engines.onnx.native import Generator, Library, Model, NativeError
from uml.engines.onnx.runner import Answer, Runner
from uml.engines.onnx.slots import Slots
from uml.engines.onnx.words import Words, check_ids
from uml.sampling.chain import Chain
from uml.sampling.grammar import Structures
from uml.sampling.settings import Settings

CONFIG: Final = "genai_config.json"
DEFAULT_CONTEXT: Final = 2048


@dataclass(slots=True)
class Adapter:
    """A LoRA adapter. scale: 1 where requests get it that say nothing, 0 where they do not."""

    path: str
    name: str
    scale: float


class Writer:
    """A loaded model that generates text. Raises an UmlError where it cannot be loaded."""

    def __init__(self, plan: LoadPlan) -> None:
        options, folder = plan.options, plan.model.info.path
        config = json.loads((folder / CONFIG).read_text("utf-8"))["model"]
        self._id = plan.model.id
        self._context = min(options.ctx or DEFAULT_CONTEXT, config.get("context_length") or options.ctx)
        ends = config.get("eos_token_id")
        self._ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
        self._begin = config.get("bos_token_id")
        self._words = Words.read(folder, self._ends, config["vocab_size"], options)
        self._structures = Structures(self._words.vocabulary)
        self._thoughts = options.reasoning_format != "none"
        self._reuse = options.cache_prompt
        threads = options.threads or len(os.sched_getaffinity(0))
        overlay = {"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}
        self._adapters: dict[int, Adapter] = {}
        self._serial = 0
        try:
            self._model = Model(Library(), folder, overlay)
            if options.warmup:
                self._warm_up()
        except NativeError as error:
            raise cause(plan, str(error)) from error
        for adapter in options.lora:
            path, sign, scale = adapter.rpartition("=")
            self.load_adapter(path if sign else adapter, float(scale) if sign else 1.0)
        count = max(1, options.parallel)
        slots = Slots(self._model, count, self._context, options.slot_similarity)
        self._slots = slots
        self._runner = Runner(slots, count, options.batch, lambda text: failure(plan, text))

    def _warm_up(self) -> None:
        """One token, so that what the library makes at the first run is there."""
        generator = Generator(self._model, 2)
        try:
            generator.append((self._begin or 0,))
        finally:
            generator.close()

    async def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """As `Host.generate`."""
        text, answer = await asyncio.to_thread(self._answer, request, asyncio.get_running_loop())
        chat = "messages" in request
        reader = Reader(
            self._words.marks,
            thoughts=chat and self._thoughts and request.get("reasoning_format") != "none",
            tools=chat and wants_tools(request),
            thinking=self._words.thinks(text),
        )
        teller = Teller(
            self._words.vocabulary.pieces,
            self._words.hidden,
            reader,
            prompt_tokens=len(answer.prompt),
            ids=request.get("return_tokens") is True,
            warnings=answer.chain.settings.notices,
        )
        self._runner.submit(answer)
        try:
            while True:
                news = [await answer.news.get()]
                while not answer.news.empty():
                    news.append(answer.news.get_nowait())
                delta = teller.tell(news)
                yield delta
                if delta.finish:
                    return
        finally:
            answer.leave()

    def _answer(self, request: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> tuple[str, Answer]:
        """What the model reads, and the answer to it: in a thread, for texts and schemas may be long."""
        text, prompt = self._prompt(request)
        room = self._context - len(prompt)
        if room < 1:
            raise ContextLengthExceeded(len(prompt), self._context, "messages" if "messages" in request else "prompt")
        settings = Settings.of(request)
        return text, Answer(
            prompt,
            min(request.get("max_tokens") or room, room),
            Chain(settings, self._words.vocabulary, prompt),
            frozenset() if settings.ignore_eos else self._ends,
            loop,
            self._structures.of(request),
            self._adapter(request),
            self._reuse and request.get("cache_prompt") is not False,
        )

    def _prompt(self, request: Mapping[str, Any]) -> tuple[str, list[int]]:
        """What the model reads, as text and as tokens. Raises BadRequest."""
        given = request.get("prompt")
        if "messages" in request:
            text = self.prompt(request)
            tokens = self._words.ids(text)
        elif isinstance(given, str):
            text, tokens = given, self._words.ids(given, whole=True)
        else:
            text, tokens = "", list(given or ())
            check_ids(tokens, len(self._words.vocabulary), "prompt")
        if not tokens:
            if self._begin is None:
                raise BadRequest("the prompt is empty, and this model has no token to begin with", param="prompt")
            tokens = [self._begin]
        return text, tokens

    def prompt(self, request: Mapping[str, Any]) -> str:
        """What a chat request makes the model read. Raises BadRequest."""
        if self._words.template is None:
            raise BadRequest(
                "this model has no chat template: give one with options.chat_template, or use /v1/completions",
                param="messages",
            )
        return self._words.template.render(request)

    def tokenize(self, text: str) -> list[int]:
        """As `Host.tokenize`."""
        return self._words.ids(text)

    def detokenize(self, tokens: list[int]) -> str:
        """As `Host.detokenize`."""
        return self._words.text(tokens)

    def embed(self, texts: list[str]) -> list[list[float]]:
        """It has no vectors. Raises BadRequest."""
        raise BadRequest(f"{self._id} generates text and makes no embeddings; load an embedding model", param="model")

    # --- adapters -------------------------------------------------------------------------------

    def adapters(self) -> list[dict[str, Any]]:
        """As `SwapsAdapters.adapters`."""
        return [{"id": id, "path": one.path, "scale": one.scale} for id, one in sorted(self._adapters.items())]

    def load_adapter(self, path: str, scale: float) -> int:
        """As `SwapsAdapters.load_adapter`."""
        _check_scale(scale)
        id = self._serial
        name = f"adapter-{id}"
        try:
            self._model.load_adapter(Path(path), name)
        except NativeError as error:
            raise BadRequest(f"{path} is no adapter of this model: {error}", param="lora") from error
        self._serial += 1
        self._adapters[id] = Adapter(path, name, scale)
        return id

    def unload_adapter(self, id: int) -> None:
        """As `SwapsAdapters.unload_adapter`."""
        adapter = self._adapters.get(id)
        if adapter is None:
            raise BadRequest(f"there is no adapter {id}", param="id")
        self._slots.forget(adapter.name)
        try:
            self._model.unload_adapter(adapter.name)
        except NativeError as error:
            raise BadRequest(f"adapter {id} is in use: {error}", param="id") from error
        del self._adapters[id]

    def scale_adapters(self, scales: Mapping[int, float]) -> None:
        """As `SwapsAdapters.scale_adapters`."""
        for id, scale in scales.items():
            if id not in self._adapters:
                raise BadRequest(f"there is no adapter {id}", param="lora")
            _check_scale(scale)
        for id, scale in scales.items():
            self._adapters[id].scale = scale

    def _adapter(self, request: Mapping[str, Any]) -> str:
        """The name of the adapter that works on this request; empty for none. Raises BadRequest."""
        given = request.get("lora")
        scales = {id: one.scale for id, one in self._adapters.items()}
        if given is not None:
            scales = dict.fromkeys(scales, 0.0)
            for item in given:
                id, scale = item.get("id"), item.get("scale", 1.0)
                if id not in scales:
                    raise BadRequest(f"there is no adapter {id}; `uml load --lora` loads one", param="lora")
                _check_scale(scale)
                scales[id] = scale
        active = [self._adapters[id].name for id, scale in scales.items() if scale]
        if len(active) > 1:
            raise BadRequest("ONNX Runtime GenAI takes one adapter a request; give the others scale 0", param="lora")
        return active[0] if active else ""

    def close(self) -> None:
        """Give everything back, when the answers that run have ended."""
        self._runner.close()
        self._slots.close()
        self._model.close()


def _check_scale(scale: float) -> None:
    if scale not in (0, 1):
        raise BadRequest(
            f"scale is {scale:g}; ONNX Runtime GenAI takes adapters as they are: 1, or 0 for off", param="lora"
        )
