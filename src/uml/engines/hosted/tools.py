"""Calls of tools that must come: a grammar in the form in which the model writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from uml.engines.hosted.speech import Marks, read_hermes, read_llama, read_mistral

_WRITTEN: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As models have seen calls in training: other blanks are tokens that they do not expect, and they lose their way."""


def grammar(request: Mapping[str, Any], marks: Marks) -> str | None:
    """llguidance's grammar for an answer that must call a function; None where it need not, or the form is unknown.

    One call, or several where `parallel_tool_calls` says so.
    """
    choice, tools = request.get("tool_choice"), request.get("tools") or []
    if not tools or choice in (None, "auto", "none") or marks.call is None:
        return None
    if isinstance(choice, Mapping):
        tools = [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]
    key = "parameters" if marks.read is read_llama else "arguments"
    one: dict[str, Any] = {"anyOf": [_call(tool["function"], key) for tool in tools]}
    again = "*" if request.get("parallel_tool_calls") else ""
    if marks.read is read_hermes:
        start = f'start: call ("\\n" call){again}' if again else "start: call"
        rules = f'{start}\ncall: "{marks.call[0]}\\n" body "\\n{marks.call[1]}"'
    elif marks.read is read_mistral:
        rules = f'start: "{marks.call[0]}" body'
        one = {"type": "array", "items": one, "minItems": 1, **({} if again else {"maxItems": 1})}
    else:
        rules = "start: body"
    body = json.dumps({**one, "x-guidance": _WRITTEN})
    return json.dumps({"grammars": [{"lark_grammar": f"{rules}\nbody: %json {body}\n"}]})


def _call(function: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, key: function.get("parameters") or {"type": "object"}},
        "required": ["name", key],
        "additionalProperties": False,
    }
