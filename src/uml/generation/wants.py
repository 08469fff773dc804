"""wants(checked): what a request asks of an engine that not every engine can do, for the choice of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from uml.core.errors import BadRequest
from uml.core.options import options_by_name
from uml.core.quote import quoted
from uml.generation.parameters import PARAMETERS
from uml.generation.prepare import Checked

WEIGHTY: Final = ("json_schema", "grammar", "regex", "choice", "logprobs", "lora", "tools")
"""Parameters for which another engine is worth its load. A sampler that is missing is told in a warning."""
INPUTS: Final = {"image_url": "image", "input_audio": "audio", "input_video": "video", "video_url": "video"}
"""Kinds of parts of a message, and what of `EngineSpec.inputs` they are."""


def named(text: str) -> tuple[str, ...]:
    """What `rank` is asked for by names with commas: parameters, load options and kinds of input, each once.

    Raises BadRequest for a name that is none of these.
    """
    names = {name: one.name for one in PARAMETERS if not one.inert for name in (one.name, *one.aliases)}
    inputs = {"vision": "image", **{kind: kind for kind in INPUTS.values()}}
    known = {**names, **{name: name for name in options_by_name()}, **inputs}
    words = [word for part in text.split(",") if (word := part.strip())]
    for word in words:
        if word not in known:
            raise BadRequest(
                f"needs has {quoted(word)}; expected names of request parameters, load options, image, audio or video",
                param="needs",
            )
    return tuple(dict.fromkeys(known[word] for word in words))


def wants(checked: Checked) -> tuple[str, ...]:
    """Names of parameters, and of kinds of input, in a fixed order; empty for most requests."""
    if checked.endpoint == "embedding":
        return ()
    body = checked.body
    found = [name for name in WEIGHTY if body.get(name)]
    format_ = body.get("response_format")
    if type(format_) is dict and format_.get("type") in ("json_schema", "json_object"):
        found.append("response_format")
    return (*found, *inputs(body.get("messages") or ()))


def inputs(messages: Iterable[Any]) -> list[str]:
    """What messages hold beside text: kinds of `EngineSpec.inputs`."""
    there = {
        part.get("type")
        for message in messages
        if type(message) is dict and type(message.get("content")) is list
        for part in message["content"]
        if type(part) is dict
    }
    return list(dict.fromkeys(INPUTS[kind] for kind in INPUTS if kind in there))
