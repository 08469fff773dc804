"""What an answer took: counted while it passes, read from its last bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_PROMPT: Final = re.compile(rb'"prompt_tokens": ?(\d+)')
_COMPLETION: Final = re.compile(rb'"completion_tokens": ?(\d+)')
_PROMPT_N: Final = re.compile(rb'"prompt_n": ?(\d+)')
_CACHE_N: Final = re.compile(rb'"cache_n": ?(\d+)')
_PREDICTED_N: Final = re.compile(rb'"predicted_n": ?(\d+)')


@dataclass(slots=True)
class Figures:
    """What an answer took.

    first_s: from the request's arrival to its first byte; None when it was not streamed. said: the worker has told a
    piece of it. ended: which of several answers are whole.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_s: float | None = None
    said: bool = False
    ended: frozenset[int] = frozenset()


def count(tail: bytes) -> Figures:
    """Tokens as an answer's last bytes tell them: from `usage`, else from llama.cpp's `timings`."""
    prompt, completion = _last(_PROMPT, tail), _last(_COMPLETION, tail)
    if completion is None:
        read = _last(_PROMPT_N, tail)
        prompt = None if read is None else read + (_last(_CACHE_N, tail) or 0)
        completion = _last(_PREDICTED_N, tail)
    return Figures(prompt or 0, completion or 0)


def _last(pattern: re.Pattern[bytes], data: bytes) -> int | None:
    found = pattern.findall(data)
    return int(found[-1]) if found else None
