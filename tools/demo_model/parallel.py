"""Gradients of several batches at once, each in a process with one thread.

A network this small is a row of short steps: threads that share each of them spend their time waiting for one
another. Processes that share only the weights reach twice the tokens a second on the same cores, and a sum in a fixed
order keeps the result the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Protocol, Self, TypeAlias

import torch
from torch import multiprocessing

from tools.demo_model.network import Weights
from tools.demo_model.packing import Batch

Cost: TypeAlias = Callable[[Weights, Batch], torch.Tensor]
Objective: TypeAlias = Callable[[], Cost]
"""Makes a cost, in the process that is to use it; travels there, so it must be picklable."""


class Gradients(Protocol):
    """Who turns batches into the weights' `grad`. A context manager."""

    def of(self, batches: Sequence[Batch], meanwhile: Callable[[], None] | None = None) -> float:
        """Leave the mean of the batches' gradients in the weights; returns the mean cost.

        meanwhile: is called once, while others do the work where there are any.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def gradients(weights: Weights, objective: Objective, count: int) -> Gradients:
    """For `count` batches at a time; one needs no process."""
    return Together(weights, objective, count) if count > 1 else Alone(weights, objective)


class Alone:
    """One batch after another, here."""

    def __init__(self, weights: Weights, objective: Objective) -> None:
        self._weights, self._cost = weights, objective()

    def of(self, batches: Sequence[Batch], meanwhile: Callable[[], None] | None = None) -> float:
        """See `Gradients`."""
        if meanwhile:
            meanwhile()
        cost = torch.stack([self._cost(self._weights, batch) for batch in batches]).mean()
        cost.backward()
        return float(cost.item())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Together:
    """`count` processes over the same weights, which end with the context."""

    def __init__(self, weights: Weights, objective: Objective, count: int) -> None:
        """The weights move into memory that the processes see, so that changing them in place is enough."""
        self._weights = weights
        for weight in weights.values():
            weight.data.share_memory_()
        shared = {name: weight.detach() for name, weight in weights.items()}
        self._found: list[Weights] = []
        self._pipes: list[Connection] = []
        self._processes = []
        context = multiprocessing.get_context("spawn")
        for _ in range(count):
            found = {name: torch.zeros_like(weight).share_memory_() for name, weight in shared.items()}
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, shared, found, objective), daemon=True)
            process.start()
            there.close()
            self._found.append(found)
            self._pipes.append(here)
            self._processes.append(process)

    def of(self, batches: Sequence[Batch], meanwhile: Callable[[], None] | None = None) -> float:
        """See `Gradients`; one batch a process. Raises EOFError where a process has died."""
        for pipe, batch in zip(self._pipes, batches, strict=True):
            pipe.send(batch)
        if meanwhile:
            meanwhile()
        costs = [float(pipe.recv()) for pipe in self._pipes]
        for name, weight in self._weights.items():
            total = self._found[0][name].clone()
            for found in self._found[1:]:
                total += found[name]
            weight.grad = total.div_(len(self._found))
        return sum(costs) / len(costs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()


def _work(pipe: Connection, shared: Weights, found: Weights, objective: Objective) -> None:
    """A process: a batch comes, its gradient is written down, its cost goes back; until the pipe ends."""
    torch.set_num_threads(1)
    cost = objective()
    weights = {name: weight.requires_grad_() for name, weight in shared.items()}
    while True:
        try:
            batch = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        mean = cost(weights, batch)
        mean.backward()
        for name, weight in weights.items():
            found[name].copy_(weight.grad)
            weight.grad = None
        pipe.send(mean.item())
