"""Which part of a request llama.cpp's server means, where its errors do not tell: texts of b11549."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from uml.generation.shapes import refuse

Body = Mapping[str, Any]
_READ: Final = frozenset({"text", "image_url", "input_audio"})
"""Kinds of parts of a message that it reads, or refuses in other words."""
_HERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("input_text", "output_text"), '{"type": "text", "text": ...}'),
    **dict.fromkeys(("image", "input_image"), '{"type": "image_url", "image_url": {"url": "data:image/..."}}'),
    **dict.fromkeys(("file", "input_file", "document"), "the file's text in a part of type text; no file is read here"),
    "tool_use": "tool_calls beside the content",
    "tool_result": "a message of the role tool",
}
"""Parts of other protocols -> what stands for them here."""


def part_at_fault(message: str, asked: Body) -> tuple[str, str] | None:
    """The path of what is at fault and a sentence on it; None where it is not known."""
    for words, look in _LOOKS:
        if message.startswith(words):
            return next(((where, said) for where, said in look(asked)), None)
    return None


def _parts(asked: Body) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, message in enumerate(asked.get("messages") or ()):
        content = message.get("content")
        for index, part in enumerate(content if type(content) is list else ()):
            yield f"messages[{place}].content[{index}]", part


def _kinds(asked: Body) -> Iterator[tuple[str, str]]:
    for where, part in _parts(asked):
        if part["type"] not in _READ:
            yield _refused(f"{where}.type", part["type"], _HERE.get(part["type"], "text, image_url or input_audio"))


def _sounds(asked: Body) -> Iterator[tuple[str, str]]:
    for where, part in _parts(asked):
        if part["type"] == "input_audio":
            said = "is sound, and the model was loaded without a projector that hears; give one by the option mmproj"
            yield where, f"{where} {said}"


def _calls(asked: Body) -> Iterator[tuple[str, str]]:
    """Calls of tools in messages that went before."""
    for place, message in enumerate(asked.get("messages") or ()):
        calls = message.get("tool_calls")
        where = f"messages[{place}].tool_calls"
        if calls is not None and type(calls) is not list:
            yield _refused(where, calls, "a list of calls")
            continue
        for index, call in enumerate(calls or ()):
            yield from _call(call, f"{where}[{index}]")


def _call(call: Any, where: str) -> Iterator[tuple[str, str]]:
    if type(call) is not dict or type(call.get("function")) is not dict:
        yield _refused(where, call, 'an object {"id": ..., "type": "function", "function": {"name", "arguments"}}')
        return
    if call.get("type") != "function":
        yield _refused(f"{where}.type", call.get("type"), "function")
    function = call["function"]
    if type(function.get("name")) is not str:
        yield _refused(f"{where}.function.name", function.get("name"), "a text")
    arguments = function.get("arguments")
    if type(arguments) is str:
        try:
            orjson.loads(arguments)
        except orjson.JSONDecodeError:
            yield _refused(f"{where}.function.arguments", arguments, "a JSON object, written as a text")


def _empty(asked: Body) -> Iterator[tuple[str, str]]:
    given = asked.get("input") if asked.get("input") is not None else asked.get("content")
    for place, text in enumerate(given) if isinstance(given, list) else ():
        if text in ("", []):
            yield f"input[{place}]", f"input[{place}] is empty; expected a text"
    yield "input", "input is empty; expected a text or a list of texts"


def _strange(asked: Body) -> Iterator[tuple[str, str]]:
    where = next((name for name in ("input", "content", "prompt") if asked.get(name) is not None), "prompt")
    yield where, f"{where}: a token id is outside the model's vocabulary"


def _refused(where: str, value: Any, expected: str) -> tuple[str, str]:
    return where, str(refuse(where, value, expected))


_LOOKS: Final[tuple[tuple[str, Callable[[Body], Iterator[tuple[str, str]]]], ...]] = (
    ("unsupported content[].type", _kinds),
    ("audio input is not supported", _sounds),
    ("Failed to parse tool call arguments", _calls),
    ("Failed to parse messages", _calls),
    ("Input content cannot be empty", _empty),
    ("Prompt contains invalid tokens", _strange),
)
