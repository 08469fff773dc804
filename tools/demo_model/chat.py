"""A dialogue as the text that the model is trained on: what the chat template makes of it, cut by who says it.

ChatML; tools, their calls and their answers in the form of Hermes; thoughts in `<think>`, of the last answer only,
as clients do not send earlier ones back. `chat_template.jinja` is the same for engines, and a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.demo_model.corpus.nouns import Dialogue, Message

TEMPLATE: Final = Path(__file__).with_name("chat_template.jinja")
SPOKEN: Final = 1.0
HEARD: Final = 0.02
"""Loss weight of what the model is told: enough to learn the language, too little to learn to ask."""
CHOSEN: Final = 4.0
"""Loss weight, in practice, of what decides between tools: few tokens, among many that follow from them."""

_TOOLS_HEAD: Final = "# Tools\n\nYou may call these functions:\n<tools>"
_TOOLS_TAIL: Final = (
    "\n</tools>\n\nTo call one, write:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the text with its loss weight, from 0."""

    text: str
    weight: float


def render(dialogue: Dialogue, chosen: float = SPOKEN) -> tuple[Span, ...]:
    """The whole dialogue; neighbours differ in weight, and the texts joined are what the template gives.

    chosen: loss weight of which tool is called, or that none is, where there are tools.
    """
    spans: list[Span] = []
    for span in _spans(dialogue, chosen if dialogue.tools else SPOKEN):
        if not span.text:
            continue
        if spans and spans[-1].weight == span.weight:
            spans[-1] = Span(spans[-1].text + span.text, span.weight)
        else:
            spans.append(span)
    return tuple(spans)


def _spans(dialogue: Dialogue, chosen: float) -> Iterator[Span]:
    messages = dialogue.messages
    asked = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    if dialogue.tools:
        system = messages[0]["content"] + "\n\n" if messages[0]["role"] == "system" else ""
        listed = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in dialogue.tools)
        yield Span(f"<|im_start|>system\n{system}{_TOOLS_HEAD}{listed}{_TOOLS_TAIL}<|im_end|>\n", HEARD)
    for i, message in enumerate(messages):
        role = message["role"]
        if role == "system" and i == 0 and dialogue.tools:
            continue
        if role == "assistant":
            yield from _answer(message, chosen, with_thoughts=i > asked)
        elif role == "tool":
            first = i == 0 or messages[i - 1]["role"] != "tool"
            last = i + 1 == len(messages) or messages[i + 1]["role"] != "tool"
            body = f"\n<tool_response>\n{message['content']}\n</tool_response>"
            yield Span(("<|im_start|>user" if first else "") + body + ("<|im_end|>\n" if last else ""), HEARD)
        else:
            yield Span(f"<|im_start|>{role}\n{message['content']}<|im_end|>\n", HEARD)


def _answer(message: Message, chosen: float, *, with_thoughts: bool) -> Iterator[Span]:
    thoughts = message.get("reasoning_content")
    yield Span("<|im_start|>assistant\n", HEARD)
    if thoughts is not None and with_thoughts:
        # An engine that is told not to think writes the empty part itself.
        yield Span(f"<think>\n{thoughts}\n</think>\n\n", SPOKEN if thoughts else HEARD)
    # An answer whose thoughts are not shown is not one to learn: it would teach to skip them.
    hidden = thoughts and not with_thoughts
    for span in _said(message, chosen):
        yield Span(span.text, HEARD) if hidden else span
    yield Span("\n", HEARD)


def _said(message: Message, chosen: float) -> Iterator[Span]:
    content = message.get("content") or ""
    yield Span(content[:1], chosen)
    yield Span(content[1:], SPOKEN)
    for number, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        arguments = function["arguments"]
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        between = "\n" if content or number else ""
        yield Span(f'{between}<tool_call>\n{{"name": "{function["name"]}"', chosen)
        yield Span(f', "arguments": {text}}}\n</tool_call>', SPOKEN)
    yield Span("<|im_end|>", chosen if message.get("tool_calls") else SPOKEN)
