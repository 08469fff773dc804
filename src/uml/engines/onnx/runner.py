"""Answers requests, each in a thread of its own: the library computes several at once, one conversation a thread.

It has a batching engine too (`OgaEngine`), which on processors fills batches of four once and lets whoever comes
later wait for their end, and which chooses tokens itself: samplers, structure and probabilities of ours would have no
place in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from uml.core.errors import EngineError, UmlError
from uml.engines.hosted.answer import News, Told
from uml.engines.onnx.feed import Feed
from uml.engines.onnx.native import Generator, NativeError
from uml.engines.onnx.slots import Slot, Slots
from uml.sampling.chain import Chain
from uml.sampling.grammar import Guide
from uml.sampling.guidance import Guidance


@dataclass(slots=True, eq=False)
class Answer:
    """One answer, from the queue to its last token.

    most: tokens to generate, 1 or more. ends: tokens that end it. feed: where it is told.
    guide: what it must look like. adapter: name of the one that works here, or empty.
    reuse: whether what a slot has read before may be gone on from. guidance: away from what follows another text.
    """

    prompt: list[int]
    most: int
    chain: Chain
    ends: frozenset[int]
    feed: Feed
    guide: Guide | None = None
    adapter: str = ""
    reuse: bool = True
    guidance: Guidance | None = None
    gone: bool = False
    """Nobody listens any more."""
    _reading: Generator | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def leave(self) -> None:
        """Nobody waits for it any more: it ends within its prompt at once, else behind the token that is computed."""
        with self._lock:
            self.gone = True
            if self._reading is not None:
                self._reading.stop()

    def reads(self, generator: Generator | None) -> None:
        """Which generator reads the prompt now; None: it is read."""
        with self._lock:
            self._reading = generator

    @property
    def endless(self) -> bool | None:
        """Whether the library never to choose an end would be right; None where it is not to choose at all."""
        if not self._free or not (self.chain.endless or self.chain.bare):
            return None
        return self.chain.endless

    @property
    def texts(self) -> tuple[list[int], ...]:
        """What is read before the answer, each text in a slot of its own; the prompt is the first."""
        return (self.prompt, self.guidance.tokens) if self.guidance else (self.prompt,)

    @property
    def _free(self) -> bool:
        return self.guide is None and self.guidance is None

    def ahead(self, generator: Generator) -> bool:
        """Whether the library chooses as is asked for, and nothing is to be told of its tokens but what they are."""
        return self._free and (self.chain.endless if generator.endless else self.chain.bare)

    def next(self, logits: NDArray[np.float32], made: int, cached: int) -> Told:
        """Choose the token that follows by its scores; so many were made before. Raises EngineError."""
        guide, chain = self.guide, self.chain
        choice = chain.choose_within(logits, guide) if guide else chain.choose(logits)
        # A structure that is complete and closed would let nothing but an end follow.
        ended = choice.token in self.ends or (guide is not None and not guide.free_to_choose)
        finish = "stop" if ended else "length" if made + 1 >= self.most else None
        if chain.settings.alternatives is not None:
            return News(choice.token, finish, choice.logprob, choice.top, 0 if made else cached)
        return News(choice.token, finish, cached=0 if made else cached) if finish or not made else choice.token


class Runner:
    """Takes as many answers at once as there are slots; others wait in the order in which they came.

    batch: tokens of prompt that are read at once. translate: from an error of the library to one of ours.
    """

    def __init__(self, slots: Slots, count: int, batch: int, translate: Callable[[str], UmlError]) -> None:
        self._slots, self._batch, self._translate = slots, batch, translate
        self._threads = ThreadPoolExecutor(count, "answer")

    def submit(self, answer: Answer, then: Callable[[], None]) -> None:
        """Take an answer into the queue. then: called when nothing is computed for it any more."""
        self._threads.submit(self._run, answer).add_done_callback(lambda _: then())

    def close(self) -> None:
        """Wait for the answers that run; they must have been left."""
        self._threads.shutdown(cancel_futures=True)

    def _run(self, answer: Answer) -> None:
        if answer.gone:
            return
        try:
            with self._slots.take(answer.texts, answer.adapter, reuse=answer.reuse, endless=answer.endless) as slots:
                cached = len(slots[0].tokens)
                for slot, text in zip(slots, answer.texts, strict=True):
                    self._read(answer, slot, text)
                guidance = answer.guidance
                last = _guided(answer, slots, guidance, cached) if guidance else _go_on(answer, slots[0], cached)
            # Told when the slot is free: who goes on with the talk at once finds it there.
            if last is not None:
                answer.feed.put(last)
        except NativeError as error:
            answer.feed.put(News(None, error=self._translate(str(error))))
        except UmlError as error:
            answer.feed.put(News(None, error=error))
        except Exception as error:
            # The boundary of this thread: an answer that nothing is told of would wait for ever.
            answer.feed.put(News(None, error=EngineError("the answer", f"{type(error).__name__}: {error}")))

    def _read(self, answer: Answer, slot: Slot, text: list[int]) -> None:
        rest = text[len(slot.tokens) :]
        answer.reads(slot.running)
        try:
            for start in range(0, len(rest), self._batch):
                if answer.gone:
                    return
                piece = rest[start : start + self._batch]
                slot.running.append(piece)
                slot.tokens += piece
        finally:
            answer.reads(None)


def _go_on(answer: Answer, slot: Slot, cached: int) -> News | None:
    """Tell the answer behind a prompt that is read, all but its end: that is given back, where anybody waits for it."""
    generator, made = slot.running, 0
    while not answer.gone:
        # Of the first token the chain sees that scores are numbers.
        if made and answer.ahead(generator):
            return _run_ahead(answer, slot, generator, made)
        told = answer.next(generator.logits(), made, cached)
        made += 1
        if isinstance(told, News) and told.finish:
            return told
        # Told before the next one is computed: what is done with it costs no time then.
        answer.feed.put(told)
        token = _token(told)
        generator.step(token)
        slot.tokens.append(token)
    return None


def _guided(answer: Answer, slots: list[Slot], guidance: Guidance, cached: int) -> News | None:
    """As `_go_on`, by the scores behind two texts, which go on with the same tokens."""
    made = 0
    while not answer.gone:
        led, free = (slot.running.logits() for slot in slots)
        told = answer.next(guidance.of(led, free), made, cached)
        made += 1
        if isinstance(told, News) and told.finish:
            return told
        answer.feed.put(told)
        token = _token(told)
        for slot in slots:
            slot.running.step(token)
            slot.tokens.append(token)
    return None


def _token(told: Told) -> int:
    if isinstance(told, int):
        return told
    assert told.token is not None
    return told.token


def _run_ahead(answer: Answer, slot: Slot, generator: Generator, made: int) -> News | None:
    """As `_go_on`; the library chooses all the rest. Between two tokens of a small model every line counts, and here
    are few: the chain is not told of tokens that it has nothing to do with."""
    likeliest, put, keep = generator.likeliest, answer.feed.put, slot.tokens.append
    ends, last, end = answer.ends, answer.most - 1, None
    for place in range(made, answer.most):
        token = likeliest()
        if place == last or token in ends:
            end = News(token, "stop" if token in ends else "length")
            break
        put(token)
        if answer.gone:
            break
        keep(token)
    # What was chosen last is not read.
    generator.rewind(len(slot.tokens))
    return end
