"""`max_tokens: 0`: the prompt is read and counted, and nothing is said.

Engines take 0 for their default, or make one token all the same; they are asked for one, which stays here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from uml.generation import Checked
from uml.generation.parameters import PARAMETERS

_NAMES: Final = next((one.name, *one.aliases) for one in PARAMETERS if one.name == "max_tokens")


def wants_nothing(checked: Checked) -> bool:
    """Whether a request wants no token of an answer."""
    return checked.endpoint != "embedding" and any(checked.body.get(name) == 0 for name in _NAMES)


def asking_for_one(dialect: Mapping[str, str | None]) -> dict[str, int]:
    """What is changed in the body for an engine."""
    return {dialect.get("max_tokens") or "max_tokens": 1}


class Nothing:
    """Takes what was said out of the events, or the reply, of one request."""

    def apply(self, value: dict[str, Any]) -> None:
        """Rewrite an event or a reply in place."""
        for choice in value.get("choices") or ():
            if "text" in choice:
                choice["text"] = ""
            if "delta" in choice:
                choice["delta"] = {"role": "assistant", "content": ""} if "role" in choice["delta"] else {}
            if "message" in choice:
                choice["message"] = {"role": "assistant", "content": ""}
            if "logprobs" in choice:
                choice["logprobs"] = None
            if choice.get("finish_reason"):
                choice["finish_reason"] = "length"
        if usage := value.get("usage"):
            usage["completion_tokens"] = 0
            usage["total_tokens"] = usage.get("prompt_tokens", 0)
        if timings := value.get("timings"):
            timings |= {"predicted_n": 0, "predicted_ms": 0.0, "predicted_per_second": 0.0}
