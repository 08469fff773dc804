"""One answer after the other, by the library's own loop: for models whose rows cannot be at different places.

Those are models with recurrent layers, encoders and decoders, and layers that share keys with others. Prompts with
images, searches by beams and answers that are guided away from another text are answered so too, of a model whose
other answers run in rows: the two take turns, step by step. What they hold the plan has not counted, or not all of it:
there must be room when one begins, and what it has used is given back after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from uml.core.errors import UmlError
from uml.engines.hosted.answer import News
from uml.engines.transformers.answer import Answer, deliver
from uml.engines.transformers.grown import grown
from uml.engines.transformers.reading import trim
from uml.engines.transformers.room import Room
from uml.engines.transformers.runner import Adapts
from uml.engines.transformers.slots import GivenUp
from uml.engines.transformers.turns import Turns
from uml.sampling.guidance import Guidance

T = TypeVar("T")
_KEPT = ("decoder_start_token_id", "bos_token_id", "pad_token_id", "forced_bos_token_id", "forced_eos_token_id")


class Alone:
    """Runs a model over one answer at a time.

    translate: from an error of the library to one of ours. room: refuses an answer that there is no memory for.
    turns: shared with others who run the same model. batch: tokens of prompt that one step reads; 0: all of them, as
    models must whose states go forward only, and those that an image is read into.
    """

    def __init__(
        self,
        model: Any,
        translate: Callable[[Exception], UmlError],
        room: Room,
        adapts: Adapts | None = None,
        turns: Turns | None = None,
        batch: int = 0,
    ) -> None:
        self._model, self._translate, self._adapts = model, translate, adapts
        self._room, self._batch = room, batch
        self._turns = turns or Turns()
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)
        self._thread.start()

    def submit(self, answer: Answer) -> None:
        """Take an answer into the queue."""
        self._queue.put(lambda: self._answer(answer))

    def between_steps(self, work: Callable[[], T]) -> Future[T]:
        """Have something else done with the model, by the thread that computes, while no answer runs."""
        done: Future[T] = Future()

        def errand() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # it is for who waits, whatever it is
                done.set_exception(error)

        self._queue.put(errand)
        return done

    def close(self) -> None:
        """End with the answer that runs."""
        self._queue.put(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()

    def _answer(self, answer: Answer) -> None:
        if answer.gone:
            return
        hooks = [layer.register_forward_pre_hook(_giving_up(answer)) for layer in layers_of(self._model)]
        try:
            with self._turns:
                self._room.check(answer)
                self._adapt(answer)
                self._generate(answer)
        except GivenUp:
            return
        except UmlError as error:
            deliver([(answer, News(None, error=error))])
        except Exception as error:
            # The boundary to the library: whatever a model raises is told to who waits for it, and the worker lives.
            deliver([(answer, News(None, error=self._translate(error)))])
        finally:
            for hook in hooks:
                hook.remove()
            trim()

    def _adapt(self, answer: Answer) -> None:
        if self._adapts is not None:
            self._adapts.use([dict(answer.scales)])

    def _between(self, answer: Answer) -> None:
        """Let others have a step; they may have run by other adapters."""
        self._turns.pass_on()
        self._adapt(answer)

    def _generate(self, answer: Answer) -> None:
        model = self._model
        own = {name: getattr(model.generation_config, name, None) for name in _KEPT}
        beams, guidance = answer.beams, answer.guidance
        settings = GenerationConfig(
            **own,
            **(beams.generation if beams else {}),
            do_sample=False,
            max_new_tokens=answer.most,
            eos_token_id=sorted(answer.ends),
            use_cache=True,
            prefill_chunk_size=max(1, self._batch // (beams.count if beams else 1)) if self._batch else None,
        )
        each = Watched if beams else Chosen
        led = [Led(model, guidance, answer.most, self._batch)] if guidance else []
        kept = {}
        if self._room.rows and not answer.inputs:
            kept = {"past_key_values": grown(model.config, len(answer.prompt) + answer.most)}
        ids = torch.tensor([answer.prompt], device=model.device)
        with torch.inference_mode():
            found = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=settings,
                logits_processor=LogitsProcessorList([*led, each(answer, lambda: self._between(answer))]),
                **kept,
                **answer.inputs,
            )
        if beams:
            # The tokens of a decoder begin with the one that starts it.
            first = 1 if model.config.is_encoder_decoder else len(answer.prompt)
            deliver([(answer, news) for news in _whole(answer, found[0, first:].tolist())])


class Led(LogitsProcessor):  # type: ignore[misc] # a class of a library without types
    """Leads scores away from what follows another text. The library's own reads that whole, with scores for all of it.

    most: tokens that come behind it. batch: tokens of it that are read at once; 0: all of them.
    """

    def __init__(self, model: Any, guidance: Guidance, most: int, batch: int) -> None:
        self._model, self._guidance, self._batch = model, guidance, batch
        self._kept = grown(model.config, len(guidance.tokens) + most)
        self._begun = False
        self._more = {"logits_to_keep": 1} if model._supports_logits_to_keep() else {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores `[1, vocabulary]` as `Guidance.of` makes them. Raises GivenUp."""
        new = input_ids[:, -1:] if self._begun else torch.tensor([self._guidance.tokens], device=input_ids.device)
        self._begun = True
        for piece in new.split(self._batch or new.shape[1], dim=1):
            found = self._model(input_ids=piece, past_key_values=self._kept, use_cache=True, **self._more).logits
        here, there = scores.float().log_softmax(-1), found[:, -1].float().log_softmax(-1)
        return there + self._guidance.scale * (here - there)


class Chosen(LogitsProcessor):  # type: ignore[misc] # a class of a library without types
    """Chooses the token that an answer wants, and leaves nothing else to choose. between: called after each."""

    def __init__(self, answer: Answer, between: Callable[[], None]) -> None:
        self._answer, self._between = answer, between

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores `[1, vocabulary]` of the chosen token alone. Raises GivenUp."""
        answer = self._answer
        if answer.gone:
            raise GivenUp
        news = answer.take(int(scores[0].argmax())) if answer.bare else answer.choose(scores[0])
        deliver([(answer, news)])
        if news.finish:
            raise GivenUp  # it is complete, whatever the library would do next
        assert news.token is not None
        self._between()
        forced = torch.full_like(scores, -torch.inf)
        forced[0, news.token] = 0
        return forced


class Watched(LogitsProcessor):  # type: ignore[misc] # a class of a library without types
    """Looks on while beams are followed. between: called after each step."""

    def __init__(self, answer: Answer, between: Callable[[], None]) -> None:
        self._answer, self._between = answer, between

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores `[beams, vocabulary]` as they are. Raises GivenUp."""
        if self._answer.gone:
            raise GivenUp
        self._between()
        return scores


def _whole(answer: Answer, tokens: list[int]) -> Iterator[News]:
    """The news of an answer that is known at once. What stands behind its end fills a row."""
    for place, token in enumerate(tokens):
        news = answer.take(token)
        last = place + 1 == len(tokens)
        yield replace(news, finish=news.finish or ("stop" if last else None))
        if news.finish:
            return


def layers_of(model: Any) -> list[Any]:
    """The layers of a model, of encoder and decoder alike: between them a step can be given up."""
    return [
        layer for part in model.modules() if isinstance(part, torch.nn.ModuleList) and len(part) > 1 for layer in part
    ]


def _giving_up(answer: Answer) -> Callable[..., None]:
    mine = threading.get_ident()

    def look(*arguments: object) -> None:
        if answer.gone and threading.get_ident() == mine:
            raise GivenUp

    return look
