"""JSON schemas made at random, and whether a value follows one: written here, for llguidance is what is tested."""

from __future__ import annotations

import random
import re
from typing import Any

Schema = dict[str, Any]
PATTERNS = ("^[a-c]{1,3}$", "^x-[0-9]{2}$", "^(yes|no)$")


def make(luck: random.Random, depth: int = 0) -> Schema:
    """A schema whose values end: texts, lists and numbers have bounds."""
    kinds = ["enum", "const", "boolean", "null", "integer", "number", "string", "pattern"]
    if depth < 3:
        kinds += ["object"] * 4 + ["array", "anyOf", "any_of_types"]
    kind = "object" if depth == 0 and luck.random() < 0.5 else luck.choice(kinds)
    made: Schema = _MAKERS[kind](luck, depth)
    return made


def _object(luck: random.Random, depth: int) -> Schema:
    names = luck.sample(["name", "age", "ok", "ärger", 'quo"te', "tags", "a b"], luck.randint(0, 4))
    return {
        "type": "object",
        "properties": {name: make(luck, depth + 1) for name in names},
        "required": [name for name in names if luck.random() < 0.6],
        "additionalProperties": False,
    }


def _array(luck: random.Random, depth: int) -> Schema:
    least = luck.randint(0, 2)
    return {"type": "array", "items": make(luck, depth + 1), "minItems": least, "maxItems": least + luck.randint(0, 2)}


def _bounded(kind: str) -> Any:
    def made(luck: random.Random, depth: int) -> Schema:
        low = luck.randint(-200, 200)
        return {"type": kind, "minimum": low, "maximum": low + luck.randint(0, 500)}

    return made


def _string(luck: random.Random, depth: int) -> Schema:
    least = luck.randint(0, 3)
    return {"type": "string", "minLength": least, "maxLength": least + luck.randint(0, 6)}


_MAKERS: dict[str, Any] = {
    "object": _object,
    "array": _array,
    "integer": _bounded("integer"),
    "number": _bounded("number"),
    "string": _string,
    "pattern": lambda luck, depth: {"type": "string", "pattern": luck.choice(PATTERNS)},
    "boolean": lambda luck, depth: {"type": "boolean"},
    "null": lambda luck, depth: {"type": "null"},
    "enum": lambda luck, depth: {"enum": luck.sample(["red", "grün", 3, None, True, "日本"], luck.randint(1, 4))},
    "const": lambda luck, depth: {"const": luck.choice(["only", 7, False, [1, "a"]])},
    "anyOf": lambda luck, depth: {"anyOf": [make(luck, depth + 1), make(luck, depth + 1)]},
    "any_of_types": lambda luck, depth: {"type": luck.sample(["boolean", "null"], 2)},
}


def follows(value: Any, schema: Schema) -> bool:
    """Whether a value is one of this schema, of those that `make` makes."""
    if "anyOf" in schema:
        return any(follows(value, one) for one in schema["anyOf"])
    if "enum" in schema:
        return any(type(value) is type(one) and value == one for one in schema["enum"])
    if "const" in schema:
        return type(value) is type(schema["const"]) and bool(value == schema["const"])
    if isinstance(schema["type"], list):
        return any(follows(value, {"type": kind}) for kind in schema["type"])
    return bool(_FOLLOWS[schema["type"]](value, schema))


def _object_follows(value: Any, schema: Schema) -> bool:
    if type(value) is not dict or not set(schema["required"]) <= value.keys() <= schema["properties"].keys():
        return False
    return all(follows(part, schema["properties"][name]) for name, part in value.items())


def _array_follows(value: Any, schema: Schema) -> bool:
    if type(value) is not list or not schema["minItems"] <= len(value) <= schema["maxItems"]:
        return False
    return all(follows(part, schema["items"]) for part in value)


def _string_follows(value: Any, schema: Schema) -> bool:
    if type(value) is not str:
        return False
    if "pattern" in schema:
        return re.search(schema["pattern"], value) is not None
    return bool(schema["minLength"] <= len(value) <= schema["maxLength"])


_FOLLOWS: dict[str, Any] = {
    "object": _object_follows,
    "array": _array_follows,
    "string": _string_follows,
    "boolean": lambda value, schema: type(value) is bool,
    "null": lambda value, schema: value is None,
    "integer": lambda value, schema: (
        type(value) in (int, float) and value == int(value) and schema["minimum"] <= value <= schema["maximum"]
    ),
    "number": lambda value, schema: type(value) in (int, float) and schema["minimum"] <= value <= schema["maximum"],
}
