"""What of a JSON schema has no effect on llama.cpp, and that a request is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from uml.core.errors import BadRequest, UnsupportedParameter
from uml.engines import builtin
from uml.engines.llamacpp.spec import GBNF
from uml.generation import check, prepare
from uml.generation.schema import lenient, schema_of, unfollowed, unheeded

BOUNDED = {"type": "object", "properties": {"price": {"type": ["number", "null"], "minimum": 0}}}
CHAT = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        (BOUNDED, ["properties.price.minimum"]),
        ({"anyOf": [{"type": "string"}, {"type": "number", "multipleOf": 2}]}, ["anyOf.1.multipleOf"]),
        ({"type": "integer", "minimum": 0, "multipleOf": 7}, ["multipleOf"]),
        ({"type": ["integer", "number"], "maximum": 3}, ["maximum"]),
        ({"type": "array", "uniqueItems": True, "items": {"type": "string", "format": "email"}}, None),
        ({"type": "array", "uniqueItems": False, "minItems": 1, "maxItems": 2, "items": {"enum": [1]}}, []),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "number", "minimum": 1}}, None),
        ({"type": "object", "properties": {}, "anyOf": [{"required": ["a"]}]}, ["properties", "anyOf.0.required"]),
        ({"type": "object", "required": ["a"], "minProperties": 1, "not": {}}, None),
        ({"$ref": "#/$defs/a", "minLength": 2, "$defs": {"a": {"type": "string", "maxLength": 3}}}, ["minLength"]),
        ({"properties": {"format": {"type": "string"}, "not": {"const": 1}}, "required": ["not"]}, []),
        ({"allOf": [{"properties": {"a": {"type": "string"}}}]}, []),
        ({"type": "string", "allOf": [{"maxLength": 3}], "minLength": 1}, ["minLength"]),
        ({"pattern": "^[a-z]{2,3}$", "maxLength": 9}, ["maxLength"]),
        ({"minimum": 3}, ["minimum"]),
        ({"enum": [1, 2], "type": "integer", "not": {"const": 1}}, []),
        ({"type": "number"}, []),
        ({"required": [{}], "properties": [{}], "type": [{}], "format": [], "items": 5, "pattern": 5}, []),
        ("number", []),
        (None, []),
    ],
)
def test_what_the_converter_of_llamacpp_passes_over(schema: Any, left: list[str] | None) -> None:
    found = list(unheeded(schema, "gbnf"))
    if left is None:
        assert found, schema
    else:
        assert found == left


@pytest.mark.parametrize("pattern", ["^a$", "^(?:a|b)+[^c\\]-]{1,3}\\.\\x41$", '^"\\\\$', "^$", "^.*$"])
def test_patterns_that_become_a_grammar(pattern: str) -> None:
    assert not unheeded({"type": "string", "pattern": pattern}, "gbnf") and not unfollowed({"pattern": pattern})


@pytest.mark.parametrize(
    "pattern", ["a", "^\\d+$", "^[\\w]$", "^(?=x)y$", "^(?P<a>b)$", "^a$|^b$", "^(a)\\1$", "^\\bx$"]
)
def test_patterns_that_do_not(pattern: str) -> None:
    assert list(unheeded({"type": "string", "pattern": pattern}, "gbnf")) == ["pattern"]


@pytest.mark.parametrize(("pattern", "known"), [("\\d+", True), ("(?=x)", False), ("(a)\\1", False), ("\\\\b", True)])
def test_patterns_that_llguidance_does_not_know(pattern: str, known: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    assert unfollowed(schema) == ("" if known else "properties.a.pattern")


def test_llguidance_knows_more() -> None:
    assert not unheeded(BOUNDED, "llguidance") and not unheeded({"type": "integer", "multipleOf": 7}, "llguidance")
    odd = {"properties": {"a": {"format": "iri"}}, "minProperties": 1, "if": {}}
    assert sorted(unheeded(odd, "llguidance")) == ["if", "minProperties", "properties.a.format"]
    assert not unheeded({"properties": {"a": {"format": "uri"}}, "minProperties": 1, "required": ["a"]}, "llguidance")
    assert lenient({"x-guidance": {"coerce_one_of": False}})["x-guidance"] == {"lenient": True, "coerce_one_of": False}
    assert lenient({}) == {}


def test_what_nobody_writes_is_not_looked_for() -> None:
    deep: dict[str, Any] = {"type": "number", "minimum": 0}
    for _ in range(200):
        deep = {"items": deep}
    assert not unheeded(deep, "gbnf")


def test_the_schema_of_a_request() -> None:
    assert schema_of({"json_schema": {}}) == {}
    assert schema_of({"response_format": {"type": "json_schema", "json_schema": {"schema": BOUNDED}}}) == BOUNDED
    assert schema_of({"response_format": {"type": "json_object", "schema": BOUNDED}}) == BOUNDED
    assert schema_of({"response_format": "text"}) is None and schema_of({}) is None


def test_a_chat_is_told_what_is_not_heeded() -> None:
    wheel = builtin()["llamacpp"].spec
    for name, value in (
        ("json_schema", BOUNDED),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "a", "schema": BOUNDED}}),
    ):
        (warning,) = prepare(check("chat", {**CHAT, name: value}), wheel).warnings
        assert warning["param"] == name and "not heeded by llama.cpp: properties.price.minimum" in warning["reason"]
        with pytest.raises(UnsupportedParameter):
            prepare(check("chat", {**CHAT, name: value, "strict": True}), wheel)
    assert not prepare(check("chat", {**CHAT, "json_schema": {"type": "number"}}), wheel).warnings
    assert not prepare(check("chat", {**CHAT, "json_schema": BOUNDED}), builtin()["transformers"].spec).warnings


def test_a_chat_is_told_what_of_its_tools_is_not_heeded() -> None:
    wheel = builtin()["llamacpp"].spec
    tools = [
        {"type": "function", "function": {"name": "bare"}},
        {"type": "function", "function": {"name": "plain", "parameters": {"type": "object", "properties": {}}}},
        {"type": "function", "function": {"name": "buy", "parameters": BOUNDED}},
    ]
    buy = {"type": "function", "function": {"name": "buy"}}
    for choice in ({}, {"tool_choice": "auto"}, {"tool_choice": "required"}, {"tool_choice": buy}):
        (warning,) = prepare(check("chat", {**CHAT, "tools": tools, **choice}), wheel).warnings
        assert warning["param"] == "tools[2].function.parameters"
        assert warning["reason"] == (
            "not heeded by llama.cpp: properties.price.minimum; a call follows the rest of the schema at most"
        )
    with pytest.raises(UnsupportedParameter, match=r"tools\[2\]\.function\.parameters"):
        prepare(check("chat", {**CHAT, "tools": tools, "strict": True}), wheel)
    plain = {"type": "function", "function": {"name": "plain"}}
    for free in ("none", plain):
        assert not prepare(check("chat", {**CHAT, "tools": tools, "tool_choice": free}), wheel).warnings
    assert not prepare(check("chat", {**CHAT, "tools": tools}), builtin()["transformers"].spec).warnings


def test_a_completion_is_followed_by_another_way_in_the_wheel() -> None:
    wheel = builtin()["llamacpp"].spec
    asked = check("completion", {"prompt": "As JSON:", "json_schema": {**BOUNDED, "uniqueItems": True}})
    prepared = prepare(asked, wheel)
    assert [warning["reason"].split(";")[0] for warning in prepared.warnings] == [
        "not heeded by llama.cpp: uniqueItems"
    ]
    assert prepared.body is not None and prepared.body["json_schema"]["x-guidance"] == {"lenient": True}
    loose = prepare(asked, replace(wheel, schemas=GBNF))
    assert "properties.price.minimum" in loose.warnings[0]["reason"]
    assert loose.body is not None and "x-guidance" not in loose.body["json_schema"]
    look = {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "^(?!a)"}}}
    with pytest.raises(BadRequest, match="pattern without look-around") as refused:
        prepare(check("completion", {"prompt": "As JSON:", "response_format": look}), wheel)
    assert refused.value.param == "response_format"
