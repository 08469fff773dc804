"""The model's own name in answers of an engine that gives an adapter's in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uml.gateway.processing import Rewriter


@dataclass(frozen=True, slots=True)
class ModelName:
    """name: of the model. then: what else is done to its answer."""

    name: str
    then: Rewriter | None = None

    def apply(self, value: dict[str, Any]) -> None:
        """Rewrite an event or a reply in place."""
        if "model" in value:
            value["model"] = self.name
        if self.then:
            self.then.apply(value)


def only_names(shape: Rewriter) -> bool:
    """Whether nothing else is done to an answer: then a whole reply is rewritten as well as its events."""
    return isinstance(shape, ModelName) and shape.then is None
