"""What of the parameters of tools an engine passes over, told before it writes a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from uml.generation.schema import unheeded


def passed_over(body: Mapping[str, Any], by: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Schemas of tools that a chat may call, by where they stand, and the paths in them that have no effect on a call.

    by: as of `schema.unheeded`. llama.cpp writes a call by a grammar, whether one is required or the model begins it by
    itself (b11549). Where calls are no JSON that grammar knows less, so that what is left is the most that is followed.
    """
    choice = body.get("tool_choice")
    if choice == "none":
        return
    only = choice["function"]["name"] if type(choice) is dict else None
    for place, tool in enumerate(body.get("tools") or ()):
        function = tool["function"]
        if only in (None, function["name"]) and (paths := unheeded(function.get("parameters"), by)):
            yield f"tools[{place}].function.parameters", paths
