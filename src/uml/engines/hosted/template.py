"""Chat templates: messages as the text that a model goes on from.

A template comes with the model and is a stranger's program, so it runs in jinja's sandbox: it sees its arguments and
nothing else, and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from uml.core.errors import BadRequest

_CUT: Final = "\x1fcut here\x1f"
"""Where the last message ends, in a prompt that goes on with it."""


class Template:
    """One chat template, with the special tokens that it may name (`bos_token` and others).

    image: what stands for an image in a prompt, where the model reads them; empty where it reads texts only.
    """

    def __init__(self, source: str, specials: Mapping[str, str], image: str = "") -> None:
        self.source = source
        self._specials = dict(specials)
        self._image = image

    def render(self, request: Mapping[str, Any]) -> str:
        """The prompt of a chat request. Raises BadRequest for messages that this template refuses.

        Looks at `messages`, `tools`, `tool_choice`, `chat_template_kwargs`, `add_generation_prompt` (true where it is
        left out), `continue_final_message` and `reasoning_effort`.
        """
        from jinja2 import TemplateError

        messages = [_plain(message, place, self._image) for place, message in enumerate(request["messages"])]
        if not any(mark in self.source for mark in ("'developer'", '"developer"')):
            # OpenAI's newer name of the system's message. llama.cpp says it so too.
            messages = [{**one, "role": "system"} if one.get("role") == "developer" else one for one in messages]
        goes_on = bool(request.get("continue_final_message"))
        if goes_on:
            if messages[-1]["role"] != "assistant" or not isinstance(messages[-1].get("content"), str):
                raise BadRequest(
                    "continue_final_message needs a last message of the assistant with a text", param="messages"
                )
            messages[-1]["content"] += _CUT
        if _takes_parts(self.source, images=bool(self._image)):
            messages = [_in_parts(message, given) for message, given in zip(messages, request["messages"], strict=True)]
        values = {
            **self._specials,
            "messages": messages,
            "tools": None if request.get("tool_choice") == "none" else request.get("tools") or None,
            "documents": None,
            "add_generation_prompt": not goes_on and request.get("add_generation_prompt", True) is not False,
        }
        if request.get("reasoning_effort") is not None:
            values["reasoning_effort"] = request["reasoning_effort"]
            values.setdefault("enable_thinking", request["reasoning_effort"] != "none")
        values |= request.get("chat_template_kwargs") or {}
        try:
            text = _compiled(self.source).render(values)
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            raise BadRequest(f"the model's chat template refuses these messages: {error}", param="messages") from error
        return str(text.rpartition(_CUT)[0] if goes_on else text)


def _plain(message: Mapping[str, Any], place: int, image: str) -> dict[str, Any]:
    """A message as templates expect it: one text for its parts, and arguments of calls as objects."""
    found = dict(message)
    content = message.get("content")
    if isinstance(content, list):
        marks = {"text": None, **({"image_url": image} if image else {})}
        other = next((index for index, part in enumerate(content) if part.get("type") not in marks), None)
        if other is not None:
            raise BadRequest(
                f"messages[{place}].content[{other}] is of type {content[other].get('type')}; this model, as it is "
                f"loaded, reads {'texts and images' if image else 'texts only'}",
                param=f"messages[{place}].content[{other}]",
            )
        found["content"] = "".join(marks[part["type"]] or part["text"] for part in content)
    elif content is None:
        found["content"] = ""
    if message.get("tool_calls"):
        found["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return found


def _in_parts(plain: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A message for a template that puts images in itself: its content as a list, whatever it came as."""
    content = given.get("content")
    if plain["role"] == "tool":
        return plain
    if not isinstance(content, list) or plain["role"] == "assistant":
        return {**plain, "content": [{"type": "text", "text": plain["content"]}]}
    return {**plain, "content": [part if part["type"] == "text" else {"type": "image"} for part in content]}


def _takes_parts(source: str, *, images: bool) -> bool:
    """Whether a template is given a content as a list of parts, as most of those for images want it.

    images: the model reads them. Without, it is given texts, unless it loses these.
    """
    if not images and _shows(source, parts=False):
        return False
    return _shows(source, parts=True)


@lru_cache(maxsize=16)
def _shows(source: str, *, parts: bool) -> bool:
    """Whether a text of a user is in what a template makes of it, found by trying: as a text, or as a part."""
    from jinja2 import TemplateError

    text = "a text of a user"
    content = [{"type": "image"}, {"type": "text", "text": text}] if parts else text
    try:
        made = _compiled(source).render(messages=[{"role": "user", "content": content}], add_generation_prompt=True)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
        return False
    # One that writes whatever it is given writes the list as Python does.
    return text in made and "'text'" not in made and '"text"' not in made


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call


@lru_cache(maxsize=8)
def _compiled(source: str) -> Any:
    """Raises BadRequest for what is no template."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`, which marks what the model said, for training; here it changes nothing."""

        tags = {"generation"}  # noqa: RUF012 - jinja's own way of saying it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        raise BadRequest(f"the model's chat template is none: {error}", param="messages") from error


def check(source: str) -> None:
    """Whether it is a template at all. Raises BadRequest."""
    _compiled(source)


def _to_json(value: Any, ensure_ascii: bool = False, indent: Any = None, **more: Any) -> str:
    """Not jinja's own, which writes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
