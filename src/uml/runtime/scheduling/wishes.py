"""Models that are to be there, though nobody may be asking for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from uml.core.errors import UmlError
from uml.core.model import Model
from uml.runtime.scheduling.events import Kept


@dataclass(slots=True)
class Wish:
    """A model that is to be there. missed: the reason why it is not, as it was told last."""

    model: Model
    how: Kept
    missed: UmlError | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """A model that is to be there, and is not. error: why it cannot be loaded now; None where others come before it."""

    model: str
    kept: Kept
    error: Mapping[str, object] | None = None


class Wishes:
    """What is wished for, in the order of the wishing; see `events.Keep`."""

    def __init__(self) -> None:
        self._by_model: dict[str, Wish] = {}

    def __iter__(self) -> Iterator[Wish]:
        return iter(self._by_model.values())

    def make(self, model: Model, how: Kept) -> None:
        """From now on this model is to be there."""
        self._by_model[model.id] = Wish(model, how)

    def drop(self, model: str) -> bool:
        """It need not be there any more. Returns whether it was to be."""
        return self._by_model.pop(model, None) is not None

    def how(self, model: str) -> Kept:
        """How a model is to be kept; empty where nobody said so."""
        wish = self._by_model.get(model)
        return wish.how if wish else ""

    def came_true(self, model: str) -> None:
        """It is there: the next reason why it is not is news again."""
        if wish := self._by_model.get(model):
            wish.missed = None

    def missed(self, model: str, error: UmlError) -> bool:
        """It cannot be there, for this reason. Returns whether that is news."""
        wish = self._by_model[model]
        news, wish.missed = wish.missed is None or wish.missed.code != error.code, error
        return news
