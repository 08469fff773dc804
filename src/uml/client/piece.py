"""An answer as it comes: piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer, as it came.

    finish: `stop`, `length`, `tool_calls` on the last piece of a choice, else None.
    usage: `prompt_tokens`, `completion_tokens`, ... on the very last piece.
    timings: the engine's own figures on the very last piece, where it gives them.
    warnings: what the engine could not honour: `param` and `reason` of each.
    """

    text: str = ""
    reasoning: str = ""
    index: int = 0
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish: str | None = None
    usage: Mapping[str, Any] | None = None
    timings: Mapping[str, Any] | None = None
    warnings: tuple[Mapping[str, Any], ...] = ()


def pieces(value: Mapping[str, Any]) -> Iterator[Piece]:
    """The pieces in one event of a chat or a completion."""
    warnings = tuple(warning for warning in value.get("warnings") or () if isinstance(warning, Mapping))
    for choice in value.get("choices") or ():
        delta = choice.get("delta") or {}
        yield Piece(
            text=delta.get("content") or choice.get("text") or "",
            reasoning=delta.get("reasoning_content") or "",
            index=choice.get("index", 0),
            tool_calls=tuple(delta.get("tool_calls") or ()),
            finish=choice.get("finish_reason"),
            warnings=warnings,
        )
        warnings = ()
    if warnings:
        yield Piece(warnings=warnings)
