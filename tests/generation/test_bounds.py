"""Which JSON schemas bound numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from uml.core.errors import UnsupportedParameter
from uml.engines import builtin
from uml.generation import check, prepare
from uml.generation.bounds import has_bounds, schema_of

BOUNDED = {"type": "object", "properties": {"price": {"type": ["number", "null"], "minimum": 0}}}


def test_only_numbers_with_bounds_are_meant() -> None:
    assert has_bounds(BOUNDED) and has_bounds({"anyOf": [{"type": "string"}, {"type": "number", "multipleOf": 2}]})
    assert not has_bounds({"type": "integer", "minimum": 0}) and not has_bounds({"type": "number"})
    assert not has_bounds(None) and not has_bounds("number")
    deep: dict[str, Any] = {"type": "number", "minimum": 0}
    for _ in range(200):
        deep = {"items": deep}
    assert not has_bounds(deep), "what nobody writes is not looked for"


def test_the_schema_of_a_request() -> None:
    assert schema_of({"json_schema": {}}) == {}
    assert schema_of({"response_format": {"type": "json_schema", "json_schema": {"schema": BOUNDED}}}) == BOUNDED
    assert schema_of({"response_format": {"type": "json_object", "schema": BOUNDED}}) == BOUNDED
    assert schema_of({"response_format": "text"}) is None and schema_of({}) is None


def test_a_build_that_does_not_heed_them_says_so() -> None:
    wheel = builtin()["llamacpp"].spec
    loose = replace(wheel, loose_numbers=True)
    body = {"messages": [{"role": "user", "content": "hello"}]}
    for name, value in (
        ("json_schema", BOUNDED),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "a", "schema": BOUNDED}}),
    ):
        asked = check("chat", {**body, name: value})
        assert not prepare(asked, wheel).warnings
        (warning,) = prepare(asked, loose).warnings
        assert warning["param"] == name and "bounds of numbers are not heeded" in warning["reason"]
        with pytest.raises(UnsupportedParameter):
            prepare(check("chat", {**body, name: value, "strict": True}), loose)
    assert not prepare(check("chat", {**body, "json_schema": {"type": "number"}}), loose).warnings
