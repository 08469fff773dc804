"""ExLlama from the child's side: what both libraries have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from uml.core.errors import (
    BadRequest,
    ContextLengthExceeded,
    CorruptFile,
    EngineError,
    LoadFailed,
    OutOfMemory,
    UmlError,
    UnsupportedArchitecture,
)
from uml.core.host import Delta
from uml.core.plan import LoadPlan
from uml.engines import handover
from uml.engines.exllama.chooser import Chooser
from uml.engines.exllama.language import template_of
from uml.engines.exllama.runner import Generator, Runner, Running
from uml.engines.hosted import tools
from uml.engines.hosted.speech import Reader, wants_tools
from uml.sampling.bans import heard
from uml.sampling.foreign import opened
from uml.sampling.grammar import grammar_of
from uml.sampling.settings import Settings
from uml.sampling.vocabulary import Vocabulary

FATAL: Final = 4
"""Exit code after a step that failed: the worker is started anew for the next request."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer. guide: the parameter that structures it, and its grammar in llguidance's words; None for none."""

    tokens: list[int]
    most: int
    settings: Settings
    guide: tuple[str, str] | None = None


class Library(Protocol):
    """What differs: one file a library. Every method is called in the worker, and imports there."""

    def load(self, plan: LoadPlan, told: Callable[[int, int], None]) -> Generator:
        """The model, its cache and a generator over them. told: modules that are loaded, and how many there are."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the model that is loaded."""
        ...

    def job(self, wanted: Wanted) -> tuple[Any, Chooser | None]:
        """A job of the generator, and who chooses its tokens; None where the library does. Raises BadRequest."""
        ...

    def encode(self, text: str, *, begin: bool) -> list[int]:
        """Token ids, special tokens by their texts. begin: with what every prompt begins with."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        ...

    def size(self) -> int:
        """How many tokens there are."""
        ...

    def close(self) -> None:
        """Give the model back."""
        ...


class ExLlamaHost:
    """A loaded model. make: imports the library, which may take minutes at the first time."""

    _plan: LoadPlan
    _library: Library
    _runner: Runner | None = None

    def __init__(self, make: Callable[[], Library]) -> None:
        self._make = make

    def load(self, plan: LoadPlan) -> None:
        """As `Host.load`; how far it is stands in the log, a line for each module."""
        self._plan, self._samplers = plan, opened(plan.samplers)
        self._template, self._marks = template_of(plan.model.info.path, plan.options)
        try:
            self._library = self._make()
            generator = self._library.load(plan, _progress)
        except UmlError:
            raise
        except Exception as error:
            # The door to the library: whatever it raises while it loads becomes a cause here.
            raise load_error(plan, error) from error
        self._runner = Runner(generator, self._fatal)

    def _fatal(self, error: BaseException) -> None:
        """After a step that failed nothing can be trusted: end, so that the next request finds a new worker."""
        sys.stderr.write(handover.failure_line(self._told(error)))
        sys.stderr.flush()
        os._exit(FATAL)

    def _told(self, error: BaseException) -> UmlError:
        if isinstance(error, UmlError):
            return error
        if out_of_memory(error):
            return OutOfMemory(self._plan.model.id, self._plan.placement.device)
        return EngineError(self._plan.model.id, f"{type(error).__name__}: {error}"[:500])

    async def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """As `Host.generate`: closing it cancels the job before the next step."""
        assert self._runner is not None
        wanted, reader = self._wanted(request)
        job, chooser = self._library.job(wanted)
        running = Running(job)
        self._runner.start(running)
        prompt, warnings, done, told = len(wanted.tokens), wanted.settings.notices, False, 0
        try:
            while not done:
                result = await running.results.get()
                if isinstance(result, BaseException):
                    raise self._told(result) from result
                if chooser is not None and chooser.failed is not None:
                    raise chooser.failed
                if result["stage"] != "streaming":
                    continue
                done = bool(result["eos"])
                text, ids = _said(result)
                said = reader.feed(text, last=done)
                likely = chooser.likely(told, len(ids)) if chooser is not None else ()
                told += len(ids)
                yield Delta(
                    said.text,
                    tokens=len(ids),
                    ids=tuple(ids) if request.get("return_tokens") else (),
                    logprobs=likely,
                    finish=_finish(result, calls=reader.calls > 0) if done else None,
                    prompt_tokens=prompt,
                    cached_tokens=int(result.get("cached_tokens") or 0),
                    reasoning=said.reasoning,
                    tool_calls=said.calls,
                    warnings=warnings,
                )
                prompt, warnings = 0, ()
        finally:
            self._runner.leave(running)

    def _wanted(self, request: Mapping[str, Any]) -> tuple[Wanted, Reader]:
        """A request, checked. Raises BadRequest."""
        settings = heard(Settings.of(request, samplers=self._samplers), self._library.size())
        thinking, chat = False, "messages" in request
        if chat:
            text = self.prompt(request)
            tokens = self._library.encode(text, begin=False)
            think = self._marks.think
            thinking = think is not None and text.rstrip().endswith(think[0])
        else:
            given = request["prompt"]
            tokens = self._library.encode(given, begin=True) if isinstance(given, str) else self._known(given, "prompt")
        if not tokens:
            raise BadRequest("the prompt is empty; expected at least one token", param="prompt")
        context = self._plan.options.ctx
        if len(tokens) >= context:
            raise ContextLengthExceeded(len(tokens), context, "messages" if chat else "prompt")
        room = context - len(tokens)
        form = request.get("reasoning_format") or self._plan.options.reasoning_format
        reader = Reader(
            self._marks, thoughts=chat and form != "none", tools=chat and wants_tools(request), thinking=thinking
        )
        return Wanted(tokens, min(request.get("max_tokens") or room, room), settings, self._guide(request)), reader

    def _guide(self, request: Mapping[str, Any]) -> tuple[str, str] | None:
        forced = tools.grammar(request, self._marks)
        return ("tool_choice", forced) if forced else grammar_of(request)

    def _known(self, tokens: list[int], param: str) -> list[int]:
        size = self._library.size()
        wrong = next((token for token in tokens if not 0 <= token < size), None)
        if wrong is not None:
            raise BadRequest(f"{param} has the token {wrong}; expected ids from 0 to {size - 1}", param=param)
        return tokens

    def prompt(self, request: Mapping[str, Any]) -> str:
        """What a chat request makes the model read. Raises BadRequest."""
        if self._template is None:
            raise BadRequest(
                "this model has no chat template; load it with chat_template, or use /v1/completions", param="messages"
            )
        return self._template.render(request)

    def tokenize(self, text: str) -> list[int]:
        """As `Host.tokenize`."""
        return self._library.encode(text, begin=False)

    def detokenize(self, tokens: list[int]) -> str:
        """As `Host.detokenize`."""
        return self._library.decode(self._known(tokens, "tokens"))

    def embed(self, texts: list[str]) -> list[list[float]]:
        """It makes none. Raises BadRequest."""
        raise BadRequest(f"{self._plan.model.id} generates text and makes no embeddings", param="model")

    def close(self) -> None:
        """Give everything back; nothing where the load failed."""
        if self._runner is not None:
            self._runner.close()
            self._library.close()


def load_error(plan: LoadPlan, error: BaseException) -> UmlError:
    """Why a load failed, from what a library raised. The texts are those of exllamav3 1.6.5 and exllamav2 0.3.2."""
    text = f"{type(error).__name__}: {error}"[:500]
    if out_of_memory(error) or "Insufficient VRAM" in text or "Insufficient space" in text:
        return OutOfMemory(plan.model.id, plan.placement.device, plan.footprint.total_bytes or None)
    if "Unknown architecture" in text or "not currently implemented for" in text:
        return UnsupportedArchitecture(plan.model.id, str(error)[:300], architecture=plan.model.info.architecture)
    if "Error while deserializing" in text or "No .safetensors files" in text or "Could not find" in text:
        return CorruptFile(plan.model.info.path, text)
    if isinstance(error, ImportError) or "CUDA_HOME" in text or "nvcc" in text:
        return LoadFailed(plan.model.id, f"the library cannot be used here: {text}")
    return LoadFailed(plan.model.id, text)


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU had no room, in whatever words."""
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()


def _said(result: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Text and tokens of a step."""
    if "held" in result and result.get("eos_reason") == "stop_token":
        # What might have become a banned text, or a character, was held back. It comes with the end behind it.
        text, ids = _said(result["held"])
        return text.removesuffix(result["eos_triggering_token_str"]), ids[:-1]
    return result.get("text", ""), result["token_ids"][0].tolist() if "token_ids" in result else []


def _finish(result: Mapping[str, Any], *, calls: bool) -> str:
    if result.get("eos_reason") == "max_new_tokens":
        return "length"
    return "tool_calls" if calls else "stop"


def _progress(done: int, of: int) -> None:
    sys.stderr.write(handover.progress_line(done, of))
    sys.stderr.flush()
