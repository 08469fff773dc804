"""An answer that llama.cpp cannot part into text, thoughts and calls: asked for again, as plain text.

Its server parts answers while they come (`common_chat_peg_parse`, build b11549). One that is not in the form that it
expects of the chat template it gives up, mostly at the first token, with an error in its place. The prompt that it
renders of a chat can be had, and `/v1/completions` takes answers as they are; what was read of the prompt is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from uml.core.errors import UnreadableAnswer
from uml.generation.schema import lenient, schema_of
from uml.generation.wants import inputs
from uml.runtime.supervisor import Lease

PATH: Final = "/v1/completions"
_RENDER: Final = "/apply-template"
_RENDERED_LIMIT: Final = 1 << 26
_RENDERING: Final = frozenset(
    {
        *("messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "chat_template_kwargs"),
        *("reasoning_effort", "reasoning_format", "reasoning_budget_tokens", "reasoning_budget_message"),
        *("reasoning_control", "thinking_budget_tokens", "add_generation_prompt", "continue_final_message"),
        *("grammar_lazy", "grammar_triggers", "preserved_tokens", "logprobs", "top_logprobs"),
    }
)
"""What of a chat is in the prompt by then, or means nothing to a text."""


async def as_text(body: Mapping[str, Any], lease: Lease) -> dict[str, Any] | None:
    """A chat as a completion of the prompt that it makes; None where there is none, as with images, or of no chat.

    body: as the engine was asked. Raises ChannelBroken.
    """
    if "messages" not in body or inputs(body["messages"]):
        return None
    response = await lease.channel.request("POST", _RENDER, orjson.dumps(body))
    said = await response.read(_RENDERED_LIMIT)
    if response.status != 200:
        return None
    asked = {name: value for name, value in body.items() if name not in _RENDERING}
    if (schema := schema_of(body)) is not None:
        asked["json_schema"] = lenient(schema) if type(schema) is dict else schema
    if body.get("logprobs"):
        asked["logprobs"] = body.get("top_logprobs") or 1
    return {**asked, "prompt": orjson.loads(said)["prompt"]}


def notice(error: UnreadableAnswer, reason: str) -> dict[str, str]:
    """The warning that an answer is not what it would be."""
    return {"param": "messages", "reason": f"{error.details['reason']}: the engine could not part the answer; {reason}"}


AS_IT_CAME: Final = "it is given as it came, thoughts and calls of tools within the text"
CUT: Final = "it is given up to there"


class AsChat:
    """Tells the events of a completion as those of a chat."""

    def __init__(self) -> None:
        self._begun: set[int] = set()

    def __call__(self, value: dict[str, Any]) -> None:
        """Rewrite an event in place."""
        value["object"] = "chat.completion.chunk"
        for choice in value.get("choices") or ():
            index = choice.get("index", 0)
            role = {} if index in self._begun else {"role": "assistant"}
            self._begun.add(index)
            choice["delta"] = {**role, "content": choice.pop("text", "")}


def cut_off(model: str, choices: Iterable[int], warning: dict[str, str]) -> dict[str, Any]:
    """The last event of a stream whose answers with these numbers go no further."""
    finished = [{"index": index, "delta": {}, "finish_reason": "length"} for index in choices]
    head = {"id": "unreadable", "object": "chat.completion.chunk", "created": 0, "model": model}
    return {**head, "choices": finished, "warnings": [warning]}
