"""From a model's text to an answer: thoughts, calls of tools, and what is said.

Models write all three into one stream of text, each family with marks of its own; here they become apart, as the text
comes, whatever the pieces in which it does.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from uml.core.host import ToolCall

Calls = list[tuple[str, str]]
"""Names of functions, with their arguments as JSON."""


@dataclass(frozen=True, slots=True)
class Marks:
    """How a model writes thoughts and calls; empty where it has none.

    think: begin and end of a thought. call: begin and end of a call, an empty end for the end of the answer.
    read: what stands between them, as calls; None where it is none.
    """

    think: tuple[str, str] | None = None
    call: tuple[str, str] | None = None
    read: Callable[[str], Calls | None] = field(default=lambda text: None)

    @property
    def texts(self) -> tuple[str, ...]:
        """All marks: tokens that stand for one of them are text, however special."""
        return tuple(mark for pair in (self.think, self.call) if pair for mark in pair if mark)


THINK: Final = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))


def marks_of(template: str, known: Callable[[str], bool]) -> Marks:
    """The marks of a model, told from its chat template and from whether a text is one token of it."""
    think = next((pair for pair in THINK if pair[1] in template or known(pair[1])), None)
    if "<tool_call>" in template:
        return Marks(think, ("<tool_call>", "</tool_call>"), read_hermes)
    if "[TOOL_CALLS]" in template:
        return Marks(think, ("[TOOL_CALLS]", ""), read_mistral)
    if "<|python_tag|>" in template or '"parameters": dictionary of argument name' in template:
        return Marks(think, ("{", ""), read_llama)
    return Marks(think)


def read_hermes(text: str) -> Calls | None:
    """`{"name": ..., "arguments": {...}}`, or Qwen3-Coder's `<function=name><parameter=key>value</parameter>`."""
    found = re.fullmatch(r"\s*<function=([^>\s]+)>(.*?)(?:</function>)?\s*", text, re.DOTALL)
    if found:
        pairs = re.findall(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", found[2], re.DOTALL)
        return [(found[1], json.dumps({key: _value(value) for key, value in pairs}, ensure_ascii=False))]
    return _calls(text)


def read_mistral(text: str) -> Calls | None:
    """A list of objects, or `name{...}`, once or several times, with `[ARGS]` between name and arguments or without."""
    if text.lstrip().startswith(("[", "{")):
        return _calls(text)
    calls: Calls = []
    for part in text.split("[TOOL_CALLS]"):
        found = re.fullmatch(r"\s*([\w.-]+)(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?\s*(\{.*\})\s*", part, re.DOTALL)
        if not found or _object(found[2]) is None:
            return None
        calls.append((found[1], found[2]))
    return calls or None


def read_llama(text: str) -> Calls | None:
    """One object with `name` and `parameters`; the mark, its first bracket, is not in the text."""
    return _calls("{" + text)


def _calls(text: str) -> Calls | None:
    try:
        given = json.loads(text)
    except ValueError:
        return None
    items = given if isinstance(given, list) else [given]
    calls: Calls = []
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            return None
        arguments = item.get("arguments", item.get("parameters", {}))
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        calls.append((item["name"], written))
    return calls or None


def _object(text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass(slots=True)
class Said:
    """What a piece of text turned out to be."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()


class Reader:
    """Reads one answer piece by piece.

    thoughts: whether thoughts are told apart; else they stay in the text, marks and all.
    tools: whether calls are looked for. thinking: the prompt has opened a thought already.
    """

    def __init__(self, marks: Marks, *, thoughts: bool = True, tools: bool = False, thinking: bool = False) -> None:
        self._think = marks.think if thoughts else None
        self._call = marks.call if tools else None
        self._read = marks.read
        self._state = "thought" if thinking and self._think else "start" if self._think else "text"
        self._held = ""
        self._body = ""
        self.calls = 0
        self._said = False
        """Whether the answer has a text that is not blank."""

    def feed(self, text: str, *, last: bool = False) -> Said:
        """What is known now to be said. At the end all that was held back is."""
        self._held += text
        said = Said()
        while self._advance(said):
            pass
        if last:
            self._finish(said)
        return said

    def _advance(self, said: Said) -> bool:
        """One state further; whether there may be more to read."""
        if self._state == "start":
            assert self._think is not None
            opening, blank = self._think[0], self._held.lstrip()
            if blank.startswith(opening):
                self._held, self._state = blank[len(opening) :], "opened"
                return True
            if opening.startswith(blank):
                return False  # it may still become the mark
            self._state = "text"
            return True
        if self._state == "thought":
            assert self._think is not None
            return self._until(self._think[1], said, "reasoning", "after")
        if self._state in ("opened", "after"):
            # Empty lines behind a mark are no part of the thought, or of the answer.
            self._held = self._held.lstrip("\n")
            if not self._held:
                return False
            self._state = "thought" if self._state == "opened" else "text"
            return True
        if self._state == "text":
            if self._call is None:
                said.text, self._held = said.text + self._held, ""
                return False
            return self._look_for_call(said)
        return self._in_call(said)

    def _look_for_call(self, said: Said) -> bool:
        assert self._call is not None
        opening = self._call[0]
        if opening == "{" and (self._said or self._held.lstrip()[:1] not in ("", "{")):
            # A bare object is a call only where it is the whole answer.
            said.text, self._held, self._said = said.text + self._held, "", True
            return False
        return self._until(opening, said, "text", "call")

    def _until(self, mark: str, said: Said, kind: str, then: str) -> bool:
        before, found, behind = self._held.partition(mark)
        if found:
            keep = before.rstrip() if kind == "text" or then == "after" else before
            self._tell(said, kind, keep)
            self._held, self._state, self._body = behind, then, ""
            return True
        # Blanks are held back too: before a mark they are no part of the answer.
        ready = len(self._held) - beginning(self._held, mark)
        ready = len(self._held[:ready].rstrip())
        self._tell(said, kind, self._held[:ready])
        self._held = self._held[ready:]
        return False

    def _tell(self, said: Said, kind: str, text: str) -> None:
        if kind == "reasoning":
            said.reasoning += text
        else:
            said.text += text
            self._said = self._said or bool(text.strip())

    def _in_call(self, said: Said) -> bool:
        assert self._call is not None
        closing = self._call[1]
        self._body += self._held
        self._held = ""
        body, found, behind = self._body.partition(closing) if closing else (self._body, "", "")
        if not found:
            return False
        self._take(body, said, closing)
        self._held, self._body, self._state = behind, "", "text"
        return bool(behind)

    def _take(self, body: str, said: Said, closing: str) -> None:
        calls = self._read(body)
        if calls is None:
            # Not what a call looks like: then it was text, and is shown as it came.
            assert self._call is not None
            self._tell(said, "text", self._call[0] + body + closing)
            return
        made = [
            ToolCall(self.calls + place, f"call_{secrets.token_hex(12)}", *call) for place, call in enumerate(calls)
        ]
        self.calls += len(made)
        said.calls += tuple(made)

    def _finish(self, said: Said) -> None:
        if self._state == "call":
            self._take(self._body + self._held, said, "")
        elif self._state in ("opened", "thought"):
            said.reasoning += self._held.rstrip()
        elif not self.calls or self._held.strip():
            said.text += self._held
        self._held = self._body = ""


def beginning(text: str, mark: str) -> int:
    """Length of the longest end of a text that begins a mark."""
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0)


def wants_tools(request: Mapping[str, Any]) -> bool:
    """Whether an answer may call functions."""
    return bool(request.get("tools")) and request.get("tool_choice") != "none"
