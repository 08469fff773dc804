"""has_bounds(schema): whether a JSON schema bounds numbers that are no integers, which some engines do not heed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_DEPTH: Final = 64


def schema_of(values: Mapping[str, Any]) -> Any:
    """The JSON schema of a request, by our names of parameters; None where it has none."""
    if values.get("json_schema") is not None:
        return values["json_schema"]
    format_ = values.get("response_format")
    if type(format_) is not dict:
        return None
    inner = format_.get("json_schema")
    return inner.get("schema") if type(inner) is dict else format_.get("schema")


def has_bounds(schema: Any, depth: int = 0) -> bool:
    """Whether something in it is a number with a bound. Values that are no schemas are looked at as if they were."""
    if depth > _DEPTH:
        return False
    if type(schema) is list:
        return any(has_bounds(part, depth + 1) for part in schema)
    if type(schema) is not dict:
        return False
    kind = schema.get("type")
    number = kind == "number" or (type(kind) is list and "number" in kind)
    if number and any(name in schema for name in BOUNDS):
        return True
    return any(has_bounds(part, depth + 1) for part in schema.values())
