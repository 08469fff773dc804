"""How each model is loaded: as a request wants it, else as it was last loaded well, else as usual."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from uml.core.engine import Precaution
from uml.core.errors import OutOfMemory, UmlError, WorkerDied
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.degrade import degrade
from uml.planning.precaution import after_abort, next_one, safer
from uml.runtime.scheduling.events import Asked

MOST_STEPS_DOWN: Final = 8
"""Loads of one model that may run out of memory before it is given up: each takes as long as a load."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is loaded.

    asked: the options of who asked, before anything was resolved; given: what is left of them after memory
    ran out, and after aborts; `less` says so. usual: how the model was usually loaded then; None: nobody knew.
    safer: what was taken after aborts.
    """

    asked: LoadOptions
    given: LoadOptions
    less: tuple[str, ...] = ()
    usual: LoadOptions | None = None
    safer: tuple[Precaution, ...] = ()


def shortage_of(error: UmlError) -> OutOfMemory | None:
    """What ended a load, or a worker in use, where it ran out of memory."""
    found = error.__cause__ if isinstance(error, WorkerDied) else error
    return found if isinstance(found, OutOfMemory) else None


class Recipes:
    """The recipe that each model comes back with after an eviction, a crash, or a load that ran out of memory.

    honours: names of the options that an engine knows, by the engine's name; precautions: what may help it after an
    abort.
    """

    def __init__(
        self,
        defaults: LoadOptions,
        honours: Callable[[str], Collection[str]],
        precautions: Callable[[str], Sequence[Precaution]] = lambda engine: (),
    ) -> None:
        self._defaults = defaults
        self._honours = honours
        self._precautions = precautions
        self._known: dict[str, Recipe] = {}

    def of(self, asked: Asked) -> Recipe:
        """How to load a model for this request.

        Where it is usually loaded otherwise than it was then, what was last asked for is out of date.
        """
        known = self._known.get(asked.model.id)
        if known and asked.usual and known.usual not in (None, asked.usual):
            known = None
        options = asked.options or (known.asked if known else asked.usual or self._defaults)
        missing: dict[str, Any] = {flag: True for flag in asked.needs if not getattr(options, flag)}
        if missing:
            options = replace(options, **missing)
        if known and options.loads_as(known.asked):
            return Recipe(options, known.given, known.less, asked.usual or known.usual, known.safer)
        return Recipe(options, options, usual=asked.usual or (known.usual if known else None))

    def expect(self, model: str, options: LoadOptions) -> None:
        """It is to be loaded so, unless it has been loaded otherwise."""
        self._known.setdefault(model, Recipe(options, options))

    def worked(self, model: str, recipe: Recipe) -> None:
        """It was loaded so."""
        self._known[model] = recipe

    def failed(self, model: str, recipe: Recipe) -> None:
        """It could not be loaded so, and there is nothing left to try: the next load begins at the top."""
        known = self._known.get(model)
        if known and known.less and known.asked == recipe.asked:
            del self._known[model]

    def less(self, recipe: Recipe, plan: LoadPlan, error: UmlError) -> bool:
        """Whether a load, or a worker, that ended in this error is tried again otherwise: with less where memory ran
        out and its options allow that, with a precaution where it aborted.
        """
        shortage, when = shortage_of(error), "the load" if isinstance(error, OutOfMemory) else "use"
        if len(recipe.less) >= MOST_STEPS_DOWN:
            return False
        asked, given = recipe.asked, recipe.given
        if shortage:
            device = str(shortage.details.get("device") or "cpu")
            if (step := degrade(asked, given, plan, device, self._honours(plan.engine))) is None:
                return False
            changed = replace(
                recipe, given=step.options, less=(*recipe.less, f"memory ran out in {when}: {step.sentence}")
            )
        else:
            if (one := next_one(asked, given, plan, error, self._precautions(plan.engine))) is None:
                return False
            less, taken = (*recipe.less, after_abort(one)), (*recipe.safer, one)
            changed = replace(recipe, given=safer(asked, given, (one,)), less=less, safer=taken)
        self._known[plan.model.id] = changed
        return True

    def restore(self, model: str) -> None:
        """Try it with all the memory that was asked for again. What made a build abort is as it was."""
        if known := self._known.get(model):
            given = safer(known.asked, known.asked, known.safer)
            self._known[model] = replace(known, given=given, less=tuple(map(after_abort, known.safer)))

    def forget(self, model: str) -> None:
        """Load it by the defaults again."""
        self._known.pop(model, None)
