"""unheeded(schema, by) -> paths in a JSON schema that would have no effect on an answer, told before it is made.

llama.cpp follows schemas in two ways, and what neither knows is passed over without a word to the caller. Its own
converter (`gbnf`: `json-schema.cpp` and `json-schema-to-grammar.cpp` of b11549) reads the keywords that it knows.
`llguidance`, where it is built in, refuses a whole schema for one keyword, and the answer then follows nothing; with
`lenient` it passes over the keyword alone. Other engines refuse what they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_DEPTH: Final = 64

_NOWHERE: Final = ("not", "if", "$dynamicRef")
_OF_OBJECTS: Final = (
    *("minProperties", "maxProperties", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies"),
    "unevaluatedProperties",
)
_OF_ARRAYS: Final = ("uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems")
_OF_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_OF_STRINGS: Final = ("pattern", "format", "minLength", "maxLength")
_ASSERTING: Final = frozenset(
    {
        *(*_NOWHERE, *_OF_OBJECTS, *_OF_ARRAYS, *_OF_NUMBERS, *_OF_STRINGS),
        *("properties", "patternProperties", "required", "additionalProperties", "allOf", "anyOf", "oneOf"),
        *("items", "prefixItems", "minItems", "maxItems"),
    }
)

_GBNF_FORMATS: Final = frozenset({"date", "time", "date-time", "uuid", *(f"uuid{version}" for version in range(1, 6))})
_GUIDANCE_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
_HEX: Final = r"x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}"
_GBNF_PATTERN: Final = re.compile(
    rf"\^(?:[^\\()\[\]^$]|\\(?:[\^$.\[\](){{}}|*+?tnr\\\"-]|{_HEX})|\((?:\?:|(?!\?))|\)"
    rf"|\[(?:[^\\\]]|\\(?:[tnr\\\"\[\]-]|{_HEX}))*\])*\$",
    re.DOTALL,
)
"""Patterns of its grammar's kind: of a whole text, and without \\d, \\w, \\s and what looks around."""
_GUIDANCE_LACKS: Final = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?<?[=!]|\\[1-9kbB])")
"""What looks around or back; a whole schema is refused for it, `lenient` or not."""


def schema_of(values: Mapping[str, Any]) -> Any:
    """The JSON schema of a request, by our names of parameters; None where it has none."""
    if values.get("json_schema") is not None:
        return values["json_schema"]
    format_ = values.get("response_format")
    if type(format_) is not dict:
        return None
    inner = format_.get("json_schema")
    return inner.get("schema") if type(inner) is dict else format_.get("schema")


def unheeded(schema: Any, by: str) -> tuple[str, ...]:
    """Paths of what is passed over: `properties.price.minimum`.

    by: `gbnf` or `llguidance`. That both take `oneOf` for `anyOf` is not told: its parts mostly exclude each other.
    """
    gbnf = by == "gbnf"
    return tuple(
        ".".join((*path, name))
        for path, node in _nodes(schema, ())
        for name in (_by_gbnf(node) if gbnf else _by_guidance(node))
        if not _is_empty(name, node[name])
    )


def unfollowed(schema: Any) -> str:
    """The first pattern for which llguidance refuses the whole schema, as its path; empty where there is none."""
    for path, node in _nodes(schema, ()):
        pattern = node.get("pattern")
        if type(pattern) is str and _GUIDANCE_LACKS.search(pattern):
            return ".".join((*path, "pattern"))
    return ""


def lenient(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of which llguidance passes over what it does not know, instead of the whole. An empty one stays."""
    if not schema:  # llama.cpp's server makes it "any object"
        return {}
    asked = schema.get("x-guidance")
    return {**schema, "x-guidance": {"lenient": True, **(asked if type(asked) is dict else {})}}


def _nodes(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every schema within a schema, itself first; what is only an example or a value is none."""
    if type(schema) is not dict or len(path) > _DEPTH:
        return
    yield path, schema
    for name in ("properties", "patternProperties", "$defs", "definitions"):
        inner = schema.get(name)
        for key, value in inner.items() if type(inner) is dict else ():
            yield from _nodes(value, (*path, name, str(key)))
    for name in ("items", "prefixItems", "additionalProperties", "allOf", "anyOf", "oneOf"):
        inner = schema.get(name)
        for place, value in enumerate(inner if type(inner) is list else ()):
            yield from _nodes(value, (*path, name, str(place)))
        yield from _nodes(inner, (*path, name))


def _kinds(node: Mapping[str, Any]) -> tuple[str, ...]:
    kind = node.get("type")
    return tuple(one for one in (kind if type(kind) is list else (kind,)) if type(one) is str)


def _by_gbnf(node: Mapping[str, Any]) -> Iterator[str]:
    """Keywords of one schema that llama.cpp's own converter never looks at, in its order of looking."""
    asserted = [name for name in node if name in _ASSERTING]
    for first in ("$ref", "oneOf", "anyOf"):
        if first in node:
            yield from (name for name in asserted if name != first)
            return
    if "const" in node or "enum" in node:
        return
    kinds = _kinds(node) or _guessed(node)
    heeded = {name for kind in kinds for name in _heeded(kind, node)}
    relevant = {name for kind in kinds for name in _RELEVANT.get(kind, ())} if kinds else _ASSERTING
    yield from (name for name in asserted if name not in heeded and (name in relevant or name in _NOWHERE))
    if "number" in kinds:  # `integer` beside it heeds what this does not
        yield from (name for name in asserted if name in heeded and name in _OF_NUMBERS)
    if "required" in heeded and not _texts(node, "required") <= _texts(node, "properties"):
        yield "required"


def _guessed(node: Mapping[str, Any]) -> tuple[str, ...]:
    """What a schema without a type is taken for."""
    if "properties" in node or node.get("additionalProperties", True) is not True:
        return ("object",)
    if "allOf" in node:
        return ("all",)
    if "items" in node or "prefixItems" in node:
        return ("array",)
    return ("string",) if any(name in node for name in _OF_STRINGS) else ()


def _heeded(kind: str, node: Mapping[str, Any]) -> tuple[str, ...]:
    if kind == "all" or (kind == "string" and "allOf" in node):
        return ("allOf",)
    if kind == "object":
        typed = "properties" in node or node.get("additionalProperties", True) is not True
        return ("properties", "required", "additionalProperties") if typed or "allOf" not in node else ("allOf",)
    if kind == "array":
        return ("items", "minItems", "maxItems") if "items" in node else ("prefixItems", "minItems", "maxItems")
    if kind == "integer":
        return ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    if kind != "string":
        return ()
    pattern = node.get("pattern")
    if type(pattern) is str:
        return ("pattern",) if _GBNF_PATTERN.fullmatch(pattern) else ()
    return ("format",) if _texts(node, "format") & _GBNF_FORMATS else ("minLength", "maxLength")


_RELEVANT: Final[Mapping[str, tuple[str, ...]]] = {
    "object": ("properties", "patternProperties", "required", "additionalProperties", "allOf", *_OF_OBJECTS),
    "array": ("items", "prefixItems", "minItems", "maxItems", "allOf", *_OF_ARRAYS),
    "string": (*_OF_STRINGS, "allOf"),
    "integer": (*_OF_NUMBERS, "allOf"),
    "number": (*_OF_NUMBERS, "allOf"),
    "all": tuple(_ASSERTING),
}


def _by_guidance(node: Mapping[str, Any]) -> Iterator[str]:
    """Keywords of one schema for which llguidance refuses it, except for patterns."""
    lacking = {*_NOWHERE, *_OF_ARRAYS, *_OF_OBJECTS} - {"minProperties", "maxProperties"}
    yield from (name for name in node if name in lacking)
    if not _texts(node, "properties") <= _texts(node, "required"):
        yield from (name for name in ("minProperties", "maxProperties") if name in node)
    if _texts(node, "format") - _GUIDANCE_FORMATS:
        yield "format"


def _texts(node: Mapping[str, Any], name: str) -> set[str]:
    """A text, texts, or the names of fields, whatever else a stranger wrote there."""
    value = node.get(name)
    return {one for one in (value if isinstance(value, list | dict) else (value,)) if type(one) is str}


def _is_empty(name: str, value: Any) -> bool:
    """Whether a keyword asks for nothing."""
    if name in ("uniqueItems", "minItems", "minLength", "minProperties", "minContains"):
        return not value
    return value is True and name.startswith("unevaluated")
