"""Conversations that stay in memory between requests, one a slot, so that the next turn reads only what is new."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from uml.engines.onnx.native import Generator, Model, NativeError


@dataclass(slots=True)
class Slot:
    """A conversation. tokens: what its generator has read. used: higher for one that was used later."""

    generator: Generator | None = None
    tokens: list[int] = field(default_factory=list)
    adapter: str = ""
    busy: bool = False
    used: int = 0

    @property
    def running(self) -> Generator:
        """The generator of a slot that was taken."""
        assert self.generator is not None
        return self.generator


class Slots:
    """Room for `slots` conversations of `context` tokens each. May be used from as many threads as there are slots.

    similarity: share of a prompt that a slot must hold to be taken for it; else the one that was idle longest is.
    """

    def __init__(self, model: Model, slots: int, context: int, similarity: float) -> None:
        self._model, self._context, self._similarity = model, context, similarity
        self._slots = [Slot() for _ in range(slots)]
        self._lock = threading.Condition()
        self._clock = count(1)
        self._turn = threading.Lock()

    @contextmanager
    def take(
        self, prompts: Sequence[Sequence[int]], adapter: str, *, reuse: bool = True, endless: bool | None = None
    ) -> Iterator[list[Slot]]:
        """A slot for each prompt that holds its beginning, all but its last token at most; the rest is to be read.

        There must be as many slots; they are waited for. endless: whether generators should be, where that matters;
        nothing is read anew for it.
        Raises NativeError where a generator cannot be made. One that was stopped or that failed is not kept.
        """
        taken = self._choose(prompts, adapter)
        kept = False
        try:
            for slot, prompt in zip(taken, prompts, strict=True):
                self._prepare(slot, prompt, adapter, reuse=reuse, endless=endless)
            with self._lock:
                self._lock.notify_all()
            yield taken
            kept = True
        finally:
            for slot in taken:
                if not kept or slot.running.stopped:
                    self._drop(slot)
            with self._lock:
                for slot in taken:
                    slot.used = next(self._clock)
                    slot.busy = False
                self._lock.notify_all()

    def _choose(self, prompts: Sequence[Sequence[int]], adapter: str) -> list[Slot]:
        # In turn, or who wants two would wait for as long as others come who want one.
        with self._turn, self._lock:
            self._lock.wait_for(lambda: sum(not slot.busy for slot in self._slots) >= len(prompts))
            return [self._best(prompt, adapter) for prompt in prompts]

    def _best(self, prompt: Sequence[int], adapter: str) -> Slot:
        free = [slot for slot in self._slots if not slot.busy]
        alike = max(free, key=lambda slot: shared(slot.tokens, prompt) if slot.adapter == adapter else -1)
        if alike.adapter != adapter or shared(alike.tokens, prompt) < self._similarity * len(prompt):
            alike = min(free, key=lambda slot: slot.used)
        alike.busy = True
        return alike

    def _prepare(self, slot: Slot, prompt: Sequence[int], adapter: str, *, reuse: bool, endless: bool | None) -> None:
        # The library keeps no scores of what it read before, so the last token is always read again.
        held = min(shared(slot.tokens, prompt), len(prompt) - 1) if reuse and slot.adapter == adapter else 0
        generator = slot.generator
        if generator is not None and slot.adapter == adapter and (held or endless in (None, generator.endless)):
            try:
                if held < len(slot.tokens):
                    generator.rewind(held)
                    del slot.tokens[held:]
                return
            except NativeError:
                pass  # a model whose state cannot go back, as recurrent ones: read everything anew
        self._drop(slot)
        slot.generator = Generator(self._model, self._context, adapter, endless=bool(endless))
        slot.adapter = adapter

    def _drop(self, slot: Slot) -> None:
        if slot.generator is not None:
            slot.generator.close()
        slot.generator, slot.adapter = None, ""
        slot.tokens.clear()

    def forget(self, adapter: str) -> None:
        """Give up the conversations of an adapter that no answer has any more, so that it can be taken out."""
        with self._lock:
            # One that was taken for another answer a moment ago gives its conversation up by itself.
            self._lock.wait_for(lambda: not any(slot.busy and slot.adapter == adapter for slot in self._slots))
            for slot in self._slots:
                if slot.adapter == adapter:
                    self._drop(slot)

    def close(self) -> None:
        """Give everything back; no slot is in use."""
        for slot in self._slots:
            self._drop(slot)


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginnings."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    low, high = 0, length
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
