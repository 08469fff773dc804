"""Answers several requests at once: each step reads the weights once, for all of them.

One thread computes. Between two steps it lets finished answers go and takes waiting ones in; prompts are read in
pieces, a piece between two steps of those that are being answered.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Final, Protocol, TypeVar

import torch

from uml.core.errors import EngineError, UmlError
from uml.engines.hosted.answer import News
from uml.engines.transformers.answer import Answer, deliver
from uml.engines.transformers.guess import Guesser
from uml.engines.transformers.rows import Row, best_row
from uml.engines.transformers.slots import GivenUp
from uml.engines.transformers.step import Stepper
from uml.engines.transformers.turns import Turns

T = TypeVar("T")
IDLE_S: Final = 1.0
"""After which nobody is likely to come while something is done ahead."""


class Adapts(Protocol):
    """Switches adapters between two steps."""

    def use(self, scales: list[dict[int, float]]) -> None:
        """From now on, row by row of a step."""
        ...


class Runner:
    """Runs a model over as many answers at once as it has rows.

    batch: tokens of prompt that one step reads. translate: from an error of the library to one of ours.
    guesser: guesses ahead while there is one answer only. turns: shared with others who run the same model.
    """

    def __init__(
        self,
        stepper: Stepper,
        rows: int,
        batch: int,
        translate: Callable[[Exception], UmlError],
        adapts: Adapts | None = None,
        guesser: Guesser | None = None,
        reuse: bool = True,
        turns: Turns | None = None,
    ) -> None:
        self._turns = turns or Turns()
        self._stepper, self._batch, self._reuse = stepper, batch, reuse
        self._translate, self._adapts, self._guesser = translate, adapts, guesser
        self._rows = [Row() for _ in range(rows)]
        self._active = 0
        self._clock = count(1)
        self._queue: deque[Answer] = deque()
        self._errands: deque[Callable[[], None]] = deque()
        self._later: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)
        self._thread.start()

    def submit(self, answer: Answer) -> None:
        """Take an answer into the queue."""
        with self._changed:
            self._queue.append(answer)
            self._changed.notify()

    def warm_up(self) -> None:
        """Read all weights once, as soon as there is nothing else to do."""

        def step() -> None:
            if not self._active:
                self._stepper(0, [0], [[0]], 1, lambda: bool(self._queue))

        self.between_steps(step)

    def close(self) -> None:
        """End with the step that runs."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(1.0)

    def between_steps(self, work: Callable[[], T]) -> Future[T]:
        """Have something else done with the model, by the thread that computes, while no step runs."""
        done: Future[T] = Future()

        def errand() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # it is for who waits, whatever it is
                done.set_exception(error)

        with self._changed:
            self._errands.append(errand)
            self._changed.notify()
        return done

    def when_idle(self, work: Callable[[], None]) -> None:
        """Have something done, by the thread that computes, once it has had nothing to do for a second."""
        with self._changed:
            self._later.append(work)
            self._changed.notify()

    def _run(self) -> None:
        # Rows change places between steps, too, and are the library's tensors of this mode.
        with torch.inference_mode():
            while self._wait():
                try:
                    with self._turns:
                        self._turn()
                except Exception as error:
                    # Nobody would be answered any more without this thread: those at work are told, and it goes on.
                    self._fail(list(range(self._active)), self._translate(error))

    def _turn(self) -> None:
        while self._errands:
            self._errands.popleft()()
        self._let_go()
        self._admit()
        self._read_prompts()
        self._go_on()

    def _wait(self) -> bool:
        with self._changed:
            while not self._has_work():
                if not self._changed.wait(IDLE_S if self._later else None):
                    self._errands.append(self._later.popleft())
            return not self._closed

    def _has_work(self) -> bool:
        return bool(self._closed or self._queue or self._active or self._errands)

    def _let_go(self) -> None:
        for index in reversed(range(self._active)):
            answer = self._rows[index].answer
            if answer is None or answer.gone:
                self._release(index)

    def _release(self, index: int) -> None:
        """Free a row; the last one in use changes places with it."""
        self._rows[index].answer = None
        self._rows[index].used = next(self._clock)
        self._active -= 1
        self._swap(index, self._active)

    def _swap(self, one: int, other: int) -> None:
        if one != other:
            rows = self._rows
            self._stepper.slots.swap(one, other, max(len(rows[one].held), len(rows[other].held)))
            rows[one], rows[other] = rows[other], rows[one]

    def _admit(self) -> None:
        while self._active < len(self._rows):
            with self._changed:
                if not self._queue:
                    return
                answer = self._queue.popleft()
            if answer.gone:
                continue
            index, same = best_row(
                self._rows, self._active, answer, self._stepper.slots.ring, reuse=self._reuse and answer.reuse
            )
            self._swap(index, self._active)
            row = self._rows[self._active]
            row.held, row.scales, row.answer = row.held[:same], dict(answer.scales), answer
            answer.cached = same
            self._active += 1

    def _read_prompts(self) -> None:
        """A piece of the prompts that wait: of several short ones together, or of the first long one."""
        reading = [index for index in range(self._active) if self._rows[index].reading]
        if not reading:
            return
        # Those that read stand behind those that are answered, so that each kind lies without gaps.
        front = self._active - len(reading)
        answered = [index for index in range(front, self._active) if index not in reading]
        for index, other in zip(reading, answered, strict=False):
            self._swap(index, other)
        group = self._group(front)
        pieces = [self._rows[index].waiting[: self._batch] for index in group]
        finished = [len(self._rows[index].waiting) == len(piece) for index, piece in zip(group, pieces, strict=True)]
        scores = self._step(group, pieces, 1)
        if scores is not None:
            self._choose([index for index, done in zip(group, finished, strict=True) if done], scores, finished)

    def _group(self, front: int) -> list[int]:
        """Rows of which pieces are read in one step: as many, of about one length, as the batch has room for."""
        if self._stepper.slots.ring:
            return [front]
        group, width = [front], len(self._rows[front].waiting)
        for index in range(front + 1, self._active):
            length = len(self._rows[index].waiting)
            wider = max(width, length)
            # Shorter rows compute as much as the longest: more than twice what they need is no gain.
            if wider * (len(group) + 1) > self._batch or wider > 2 * min(width, length):
                break
            group.append(index)
            width = wider
        return group

    def _go_on(self) -> None:
        """One more token for every answer that has read its prompt."""
        front = 0
        while front < self._active and not self._rows[front].reading:
            front += 1
        rows = [index for index in range(front) if self._rows[index].answer is not None]
        if rows != list(range(len(rows))):
            return  # one has just ended in the middle: the next turn closes the gap first
        if len(rows) == 1 and self._active == 1 and self._guesser is not None:
            self._guess(self._rows[0])
        elif rows:
            scores = self._step(rows, [self._rows[index].waiting for index in rows], 1)
            if scores is not None:
                self._choose(rows, scores, [True] * len(rows))

    def _step(self, rows: list[int], tokens: list[list[int]], keep: int) -> torch.Tensor | None:
        """Compute; None where everybody has left, or an error was told to all."""
        held = [self._rows[index] for index in rows]
        answers = [row.answer for row in held if row.answer is not None]
        if self._adapts is not None:
            self._adapts.use([dict(row.scales) for row in held])
        try:
            starts = [len(row.held) for row in held]
            scores = self._stepper(rows[0], starts, tokens, keep, lambda: all(answer.gone for answer in answers))
        except GivenUp:
            return None
        except Exception as error:
            # The boundary to the library: whatever a model raises is told to who waits for it, and the worker lives.
            self._fail(rows, self._translate(error))
            return None
        for row, piece in zip(held, tokens, strict=True):
            row.held += piece
        return scores

    def _fail(self, rows: list[int], error: UmlError) -> None:
        told = [(answer, News(None, error=error)) for index in rows if (answer := self._rows[index].answer)]
        for index in rows:
            self._rows[index].answer, self._rows[index].held = None, []
        deliver(told)

    def _choose(self, rows: list[int], scores: torch.Tensor, wanted: list[bool]) -> None:
        """Choose a token for each of these rows, by the scores of all rows of the step."""
        shown = [scores[place, -1] for place, want in enumerate(wanted) if want]
        answers = [self._rows[index].answer for index in rows]
        # Of 16 bits, `argmax` takes four times as long; both give the first of equals.
        best = scores[:, -1].max(-1).indices.tolist() if any(answer and answer.bare for answer in answers) else None
        told = []
        for place, (index, answer) in enumerate(zip(rows, answers, strict=True)):
            if answer is None or answer.gone:
                continue
            news = self._chosen(answer, shown[place], best[place] if best and all(wanted) else None)
            told.append((answer, news))
            if news.finish or news.error:
                self._rows[index].answer = None
        deliver(told)

    def _chosen(self, answer: Answer, scores: torch.Tensor, likeliest: int | None) -> News:
        try:
            if answer.bare and likeliest is not None:
                return answer.take(likeliest)
            return answer.choose(scores)
        except UmlError as error:
            return News(None, error=error)
        except Exception as error:
            # A sampler that fails ends its own answer and no other.
            return News(None, error=EngineError("the sampler", f"{type(error).__name__}: {error}"))

    def _guess(self, row: Row) -> None:
        """Tokens for the only answer: those that are guessed, as long as they are what would have been chosen."""
        answer = row.answer
        assert answer is not None
        assert self._guesser is not None
        room = min(self._stepper.context - len(row.held) - 1, answer.most - len(answer.made) - 1)
        guess = self._guesser.guess([*answer.prompt, *answer.made], room) if room > 0 else []
        tokens = [*row.waiting, *guess]
        scores = self._step([0], [tokens], len(guess) + 1)
        if scores is None:
            return
        told: list[tuple[Answer, News]] = []
        for place in range(len(guess) + 1):
            news = self._chosen(answer, scores[0, place], None)
            told.append((answer, news))
            if news.finish or news.error or (place < len(guess) and news.token != guess[place]):
                break
        # What was guessed wrong is written over by what comes next.
        accepted = len(told) - 1
        row.held = row.held[: len(row.held) - (len(guess) - accepted)] if len(guess) > accepted else row.held
        self._guesser.learn(len(guess), accepted)
        if told[-1][1].finish or told[-1][1].error:
            row.answer = None
        deliver(told)
