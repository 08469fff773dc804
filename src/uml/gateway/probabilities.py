"""Probabilities in the shape that was asked for: engines give one shape to everybody, and too much of it.

The legacy completions endpoint tells them as four lists of the same length, which clients read by name:
https://platform.openai.com/docs/api-reference/completions/object
"""

from __future__ import annotations

from typing import Any

from uml.generation import Checked


class Shape:
    """Rewrites the probabilities in the events, or in the reply, of one request.

    alternatives: likeliest tokens that were asked for at each place.
    """

    def __init__(self, alternatives: int, legacy: bool) -> None:
        self._alternatives = alternatives
        self._legacy = legacy
        self._lengths: dict[int, int] = {}
        """Choice -> characters of its text so far."""

    def apply(self, value: dict[str, Any]) -> None:
        """Rewrite an event or a reply in place."""
        for choice in value.get("choices") or ():
            found = choice.get("logprobs")
            tokens = found.get("content") if isinstance(found, dict) else None
            if not isinstance(tokens, list) or not all("logprob" in token for token in tokens):
                continue  # llama.cpp's own shape, for `post_sampling_probs`
            if self._legacy:
                choice["logprobs"] = self._lists(choice.get("index", 0), tokens)
            else:
                for token in tokens:
                    token["top_logprobs"] = (token.get("top_logprobs") or [])[: self._alternatives]

    def _lists(self, index: int, tokens: list[dict[str, Any]]) -> dict[str, Any]:
        offsets, length = [], self._lengths.get(index, 0)
        for token in tokens:
            offsets.append(length)
            length += len(token["token"])
        self._lengths[index] = length
        return {
            "tokens": [token["token"] for token in tokens],
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [
                {likely["token"]: likely["logprob"] for likely in token.get("top_logprobs", ())[: self._alternatives]}
                for token in tokens
            ]
            if self._alternatives
            else None,
            "text_offset": offsets,
        }


def shape_for(checked: Checked) -> Shape | None:
    """What a request wants of its probabilities; None where it asks for none, or for what engines give."""
    wanted = checked.body.get("logprobs")
    if checked.endpoint == "chat":
        alternatives = int(checked.body.get("top_logprobs") or 0)
        return Shape(0, legacy=False) if wanted is True and not alternatives else None
    if checked.endpoint == "completion" and wanted is not None:
        return Shape(int(wanted), legacy=True)
    return None
