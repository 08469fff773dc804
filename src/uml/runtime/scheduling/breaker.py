"""What went wrong with a model, and when it is tried again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from uml.core.errors import (
    IllegalInstruction,
    LoadSuspended,
    Quarantined,
    UmlError,
    UnsupportedArchitecture,
)
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.runtime.scheduling.policy import Policy

RESTART_S: Final = 1.0
"""The pause after a second death; the first is followed by a new start at once, the third by twice this."""
RESTART_LIMIT_S: Final = 30.0
LASTING: Final = (UnsupportedArchitecture, IllegalInstruction)
"""Causes that time alone does not heal."""


@dataclass(slots=True)
class Trouble:
    """A model's failed loads in a row, and its worker's deaths since it was last healthy.

    model: as it was when it went wrong, to see that its file has changed. options: with which it did.
    until_s: it is not tried before.
    """

    model: Model
    options: LoadOptions
    error: UmlError
    failures: int = 0
    deaths: int = 0
    until_s: float = 0.0

    def concerns(self, model: Model, options: LoadOptions) -> bool:
        """Whether it is the same model with the same options."""
        unchanged = (self.model.created, self.model.info) == (model.created, model.info)
        return unchanged and self.options.loads_as(options)


class Breaker:
    """Keeps requests from trying at once, and over and over, what has just failed.

    A failed load is an answer to whoever asks in the time that follows: nobody waits for what will likely
    fail again. A death is followed by a pause in which requests wait; so many deaths by a quarantine. A
    person, other options and a changed file lift everything.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._troubles: dict[str, Trouble] = {}

    def failed(self, model: Model, options: LoadOptions, error: UmlError, now_s: float) -> None:
        """A load has failed."""
        trouble = self._trouble(model, options, error)
        trouble.failures += 1
        pause_s = self._policy.retry_s * 2.0 ** min(trouble.failures - 1, 32)
        if isinstance(error, LASTING):
            pause_s = self._policy.retry_limit_s
        trouble.until_s = now_s + min(pause_s, self._policy.retry_limit_s)

    def served(self, model: Model, options: LoadOptions) -> None:
        """A load has ended well."""
        trouble = self._troubles.get(model.id)
        if trouble and trouble.concerns(model, options):
            trouble.failures = 0
            if not trouble.deaths:
                self.lift(model.id)

    def died(self, model: Model, options: LoadOptions, error: UmlError, served_s: float, now_s: float) -> int:
        """A worker that had served for so long has died. Returns how often it has since it was last healthy."""
        trouble = self._trouble(model, options, error)
        if served_s >= self._policy.healthy_s:
            trouble.deaths = 0
        trouble.deaths += 1
        pause_s = RESTART_S * 2.0 ** min(trouble.deaths - 2, 32) if trouble.deaths > 1 else 0.0
        trouble.until_s = now_s + min(pause_s, RESTART_LIMIT_S)
        return trouble.deaths

    def lift(self, model: str) -> None:
        """Somebody wants it tried whatever was."""
        self._troubles.pop(model, None)

    def refusal(self, model: Model, options: LoadOptions, now_s: float) -> UmlError | None:
        """The error for a request with these options; None where the load may be tried, now or after a pause."""
        trouble = self._troubles.get(model.id)
        if trouble is None:
            return None
        if not trouble.concerns(model, options):
            # Not forgotten: these options may never come to be tried, and the others come back.
            return None
        if self._quarantined(trouble):
            return Quarantined(model.id, trouble.error, trouble.deaths)
        if trouble.failures and now_s < trouble.until_s:
            return LoadSuspended(model.id, trouble.error, trouble.failures, trouble.until_s - now_s)
        return None

    def pause_until_s(self, model: Model, options: LoadOptions, now_s: float) -> float | None:
        """When it may be started again with these options, after a death or a failure; None for now."""
        trouble = self._troubles.get(model.id)
        waits = trouble is not None and trouble.until_s > now_s and trouble.concerns(model, options)
        return trouble.until_s if trouble and waits else None

    def retry_at_s(self, model: str) -> float | None:
        """When a request may start it again; infinity: only a person; None where nothing is wrong."""
        trouble = self._troubles.get(model)
        if trouble is None:
            return None
        return math.inf if self._quarantined(trouble) else trouble.until_s

    def quarantine(self, model: str) -> Quarantined | None:
        """Why only a person, other options or a changed file bring it back; None where it comes back by itself."""
        trouble = self._troubles.get(model)
        if trouble is None or not self._quarantined(trouble):
            return None
        return Quarantined(model, trouble.error, trouble.deaths)

    def holds(self, model: str) -> bool:
        """Whether there is anything that a changed file would lift."""
        return model in self._troubles

    def _quarantined(self, trouble: Trouble) -> bool:
        return 0 < self._policy.deaths <= trouble.deaths

    def _trouble(self, model: Model, options: LoadOptions, error: UmlError) -> Trouble:
        trouble = self._troubles.get(model.id)
        if trouble is None or not trouble.concerns(model, options):
            trouble = self._troubles[model.id] = Trouble(model, options, error)
        trouble.error = error
        return trouble
