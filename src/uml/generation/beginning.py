"""An empty prompt: the answer begins as a text does, with the token that the model was trained to see there.

So do OpenAI's models ("as if from the beginning of a new document"). llama.cpp puts that token before a text where the
model's file says so (`add_bos_token`), and makes nothing at all of a prompt without tokens (b11549).
"""

from __future__ import annotations

from typing import Any, Final

from uml.core.model import ModelInfo

_BEGINNING: Final = ("tokenizer.ggml.bos_token_id", "bos_token_id")
"""In a GGUF file, and in the config.json of a folder that one is made of."""


def first_token(info: ModelInfo) -> int | None:
    """The token that begins texts, as the model's header says; None where it names none that the model has."""
    known = info.shape.vocabulary if info.shape else 0
    named = [token for key in _BEGINNING if type(token := info.metadata.get(key)) is int]
    return next((token for token in named if token >= 0 and (not known or token < known)), None)


def has_empty(prompt: Any) -> bool:
    """Whether a prompt is empty, or one of several."""
    return not prompt or (type(prompt) is list and ("" in prompt or [] in prompt))


def begun(prompt: Any, token: int) -> Any:
    """The same prompt, with this token for every text that is empty."""
    if not prompt:
        return [token]
    return [[token] if one in ("", []) else one for one in prompt]
