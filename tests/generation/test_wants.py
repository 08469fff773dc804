"""What a request, or a user, wants of an engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pictures import part, png
from uml.core.errors import BadRequest
from uml.generation import check
from uml.generation.wants import named, wants

PICTURE = part(png())


def wanted(content: Any = "hello", **more: Any) -> tuple[str, ...]:
    return wants(check("chat", {"messages": [{"role": "user", "content": content}], **more}))


def test_most_requests_want_nothing_special() -> None:
    assert wanted() == wanted(temperature=0.5, top_a=0.1, json_schema=None, response_format={"type": "text"}) == ()
    assert wants(check("embedding", {"input": "a"})) == ()


def test_structure_adapters_tools_and_probabilities_are_wanted() -> None:
    assert wanted(json_schema={"type": "object"}) == ("json_schema",)
    assert wanted(response_format={"type": "json_object"}) == ("response_format",)
    assert wanted(lora=[{"id": 0, "scale": 1}], logprobs=True) == ("logprobs", "lora")
    assert wants(check("completion", {"prompt": "a", "regex": "a+", "choice": ["b"]})) == ("regex", "choice")


def test_a_picture_is_wanted_to_be_seen() -> None:
    assert wanted([{"type": "text", "text": "what is it?"}]) == ()
    assert wanted([{"type": "text", "text": "what is it?"}, PICTURE, PICTURE]) == ("image",)


def test_needs_by_name() -> None:
    assert named("") == named(" , ") == ()
    assert named("json_schema, lora,vision,lora") == ("json_schema", "lora", "image")
    assert named("rep_pen,ctx") == ("repetition_penalty", "ctx")
    with pytest.raises(BadRequest, match="needs has 'jsonschema'; expected names of request parameters"):
        named("jsonschema")
