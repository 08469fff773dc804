"""What stands inside a parameter: messages, tools, formats and the like, checked before an engine sees them.

llama.cpp's server takes a default, without a word, for most of what has another shape than it expects;
so nothing of the kind may reach it. Every check raises BadRequest with the path of the part at fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from uml.core import image
from uml.core.errors import BadRequest

Body = Mapping[str, Any]
MOST_DOCUMENTS: Final = 4096
"""Scored for one query."""
ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
"""Of OpenAI's messages, those of other protocols among them. A chat template may know more."""


def shown(value: object) -> str:
    """A value as a sentence quotes it: JSON, 60 characters at most."""
    try:
        text = json.dumps(value[:100] if isinstance(value, str) else value, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply"
    return text if len(text) <= 60 else f"{text[:57]}..."


def refuse(where: str, value: object, expected: str) -> BadRequest:
    """The error for a value of another shape than expected."""
    found = "missing" if value is None else shown(value)
    return BadRequest(f"{where} is {found}; expected {expected}", param=where)


def _messages(messages: Any, body: Body) -> None:
    if not messages:
        raise BadRequest("messages is empty; expected a list of {role, content}", param="messages")
    pictures: list[image.Header] = []
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if type(message) is not dict:
            raise refuse(where, message, "an object with role and content")
        role, content = message.get("role"), message.get("content")
        if type(role) is not str or not role:
            raise refuse(f"{where}.role", role, f"one of {', '.join(ROLES)}")
        if type(content) is list:
            for index, part in enumerate(content):
                _part(part, f"{where}.content[{index}]", pictures)
        elif type(content) is not str and not (content is None and role == "assistant"):
            raise refuse(f"{where}.content", content, "a text or a list of parts")
        if message.get("images"):  # of Ollama; templates pass over it
            expected = 'images as parts of the content: {"type": "image_url", "image_url": {"url": "data:image/..."}}'
            raise refuse(f"{where}.images", message["images"], expected)


def _part(part: Any, where: str, pictures: list[image.Header]) -> None:
    if type(part) is not dict or type(part.get("type")) is not str:
        raise refuse(where, part, "an object with a type")
    kind = part["type"]
    if kind == "text" and type(part.get("text")) is not str:
        raise refuse(f"{where}.text", part.get("text"), "a text")
    if kind == "image_url":
        _picture(part, f"{where}.image_url.url", pictures)


def _picture(part: Mapping[str, Any], where: str, pictures: list[image.Header]) -> None:
    """An image, and all before it: engines decode what they are given, however large that becomes."""
    pictures.append(image.check(image.data_of(image.url_of(part), where), where))
    if len(pictures) > image.MOST:
        raise BadRequest(f"{where} is image {len(pictures)} of the request; expected {image.MOST} at most", param=where)
    pixels = sum(one.pixels for one in pictures)
    if pixels > image.MOST_PIXELS_IN_ALL:
        raise BadRequest(
            f"{where} brings the images of the request to {pixels} pixels; expected {image.MOST_PIXELS_IN_ALL} in all "
            "at most; send them smaller",
            param=where,
        )


def _tools(tools: Any, body: Body) -> None:
    for place, tool in enumerate(tools):
        where = f"tools[{place}]"
        if type(tool) is not dict or tool.get("type", "function") != "function":
            raise refuse(where, tool, 'an object {"type": "function", "function": {...}}')
        function = tool.get("function")
        if type(function) is not dict:
            raise refuse(f"{where}.function", function, "an object with name, description and parameters")
        if type(function.get("name")) is not str or not function["name"]:
            raise refuse(f"{where}.function.name", function.get("name"), "a text")
        for name, kind, words in (("description", str, "a text"), ("parameters", dict, "a JSON schema")):
            if function.get(name) is not None and type(function[name]) is not kind:
                raise refuse(f"{where}.function.{name}", function[name], words)


def _tool_choice(choice: Any, body: Body) -> None:
    tools = body.get("tools") or []
    if type(tools) is not list:
        return  # refused for that, when its turn comes
    _tools(tools, body)
    names = [tool["function"]["name"] for tool in tools]
    if type(choice) is dict:
        function = choice.get("function")
        name = function.get("name") if type(function) is dict else None
        if choice.get("type") != "function" or type(name) is not str:
            raise refuse("tool_choice", choice, 'an object {"type": "function", "function": {"name": ...}}')
        if name not in names:
            raise refuse("tool_choice.function.name", name, f"one of the tools: {', '.join(names) or 'there are none'}")
    elif choice not in ("none", "auto", "required"):
        raise refuse("tool_choice", choice, "none, auto, required or an object that names a function")
    elif choice == "required" and not names:
        raise BadRequest("tool_choice is required and there are no tools", param="tool_choice")


def _response_format(wanted: Any, body: Body) -> None:
    kind = wanted.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise refuse("response_format.type", kind, "text, json_object or json_schema")
    if kind == "json_schema":
        outer = wanted.get("json_schema")
        if type(outer) is not dict:
            raise refuse("response_format.json_schema", outer, "an object with name and schema")
        if type(outer.get("schema")) is not dict:
            raise refuse("response_format.json_schema.schema", outer.get("schema"), "a JSON schema")
    elif kind == "json_object" and wanted.get("schema") is not None and type(wanted["schema"]) is not dict:
        raise refuse("response_format.schema", wanted["schema"], "a JSON schema")


def _no_empty(name: str) -> Callable[[Any, Body], None]:
    def check(texts: Any, body: Body) -> None:
        if "" in ([texts] if type(texts) is str else texts):
            raise BadRequest(f"{name} has an empty text, which is in every answer; leave it out", param=name)

    return check


def _stream_options(options: Any, body: Body) -> None:
    for name, value in options.items():
        if name in STREAM_OPTIONS and type(value) is not bool and value is not None:
            raise refuse(f"stream_options.{name}", value, "true or false")


STREAM_OPTIONS: Final = ("include_usage", "include_obfuscation", "continuous_usage_stats")


def _logit_bias(bias: Any, body: Body) -> None:
    expected = "an object of token ids with numbers, or a list of [token, number or false]"
    pairs = bias.items() if type(bias) is dict else bias
    if type(bias) not in (dict, list):
        raise refuse("logit_bias", bias, expected)
    for pair in pairs:
        good = type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) in (str, int)
        if not good or not (type(pair[1]) in (int, float) or pair[1] is False):
            raise refuse("logit_bias", bias, expected)


def _lora(adapters: Any, body: Body) -> None:
    for place, adapter in enumerate(adapters):
        where = f"lora[{place}]"
        if type(adapter) is not dict or type(adapter.get("id")) is not int or adapter["id"] < 0:
            raise refuse(where, adapter, 'an object {"id": place among the loaded adapters, from 0, "scale": number}')
        if type(adapter.get("scale", 1.0)) not in (int, float):
            raise refuse(f"{where}.scale", adapter["scale"], "a number")


def _documents(documents: Any, body: Body) -> None:
    if not 0 < len(documents) <= MOST_DOCUMENTS:
        raise BadRequest(f"documents has {len(documents)}; expected 1 to {MOST_DOCUMENTS} texts", param="documents")
    for place, document in enumerate(documents):
        text = document.get("text") if type(document) is dict else document
        if type(text) is not str:
            raise refuse(f"documents[{place}]", document, "a text, or an object with a text")


def _early_stopping(value: Any, body: Body) -> None:
    if value not in (True, False, "never") or type(value) is int:
        raise refuse("early_stopping", value, "true, false or never")


SHAPES: Final[Mapping[str, Callable[[Any, Body], None]]] = {
    "messages": _messages,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "response_format": _response_format,
    "stop": _no_empty("stop"),
    "banned_strings": _no_empty("banned_strings"),
    "stream_options": _stream_options,
    "logit_bias": _logit_bias,
    "lora": _lora,
    "documents": _documents,
    "early_stopping": _early_stopping,
}
"""Parameter -> the check of its value, which is of the right type already, beside the whole body."""
