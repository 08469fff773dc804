"""JSON that a stranger wrote: refused before it is parsed when parsing could take too much memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from uml.core.errors import BadFile, CorruptFile
from uml.core.model import Scalar
from uml.formats.reader import opened, read_at

MAX_JSON = 16 << 20
"""Bytes of a JSON text; the largest configurations in the wild have 5 MiB."""
MAX_COST = 48 << 20
"""Bytes that parsing may take, as estimated by `cost`."""
MAX_SCALARS = 2000
MAX_SCALAR_TEXT = 4096

Hook = Callable[[list[tuple[str, Any]]], Any]
Object = Mapping[str, Any]


def read_object(path: Path, max_bytes: int = MAX_JSON) -> dict[str, Any]:
    """The JSON object in a file. Raises CorruptFile where there is none, BadFile where it is too large."""
    with opened(path) as (file, size):
        if size > max_bytes:
            raise BadFile(path, f"has {size} bytes of JSON; at most {max_bytes} are read")
        raw = read_at(file, 0, size)
    found = parse(path, raw)
    if not isinstance(found, dict):
        raise CorruptFile(path, f"JSON of type {type(found).__name__}", "an object")
    return found


def parse(path: Path, raw: bytes, hook: Hook | None = None, offset: int = 0) -> Any:
    """The value of a JSON text that lies at `offset` of a file. Raises CorruptFile or BadFile."""
    if (needed := cost(raw)) > MAX_COST:
        raise BadFile(path, f"its JSON would take {needed >> 20} MiB of memory; at most {MAX_COST >> 20} are allowed")
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=hook)
    except json.JSONDecodeError as error:
        raise CorruptFile(path, f"no JSON: {error.msg}", "a JSON object", offset + error.pos) from error
    except RecursionError as error:
        raise CorruptFile(path, "JSON nested too deeply", "a plain object", offset) from error
    # A number of thousands of digits, or bytes that are not UTF-8.
    except ValueError as error:
        raise CorruptFile(path, f"no JSON: {error}", "a JSON object", offset) from error


def cost(raw: bytes) -> int:
    """Bytes that the parsed value may take, at most: measured on CPython 3.11, with every entry an object of its own.

    The entry of a tensor in a safetensors header (3 brackets, 4 colons, 5 commas) is made small as it is
    parsed, and counts less than its parts.
    """
    tensors = raw.count(b'"data_offsets"')
    containers = raw.count(b"{") + raw.count(b"[") - 3 * tensors
    pairs = raw.count(b":") - 4 * tensors
    items = raw.count(b",") - 5 * tensors
    text_bytes = len(raw) * (1 + 2 * _character_bytes(raw))
    return text_bytes + 450 * tensors + 120 * max(0, containers) + 110 * max(0, pairs) + 60 * max(0, items)


def _character_bytes(raw: bytes) -> int:
    """Bytes that Python keeps for each character of the text: one that needs four makes all of them need four."""
    if raw.isascii():
        return 1
    return 4 if any(raw.count(lead) for lead in (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")) else 2


def child(config: Object, key: str) -> dict[str, Any]:
    """An object inside another; empty where there is none."""
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def text(config: Object, *keys: str) -> str:
    """The first of these keys that holds a text; empty where none does."""
    return next((value for key in keys if isinstance(value := config.get(key), str)), "")


def number(config: Object, *keys: str) -> float | None:
    """The first of these keys that holds a finite number."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 53:
            return value
    return None


def count(config: Object, *keys: str) -> int:
    """The first of these keys that holds a count; 0 where none does."""
    value = number(config, *keys)
    return int(value) if value is not None and 0 <= value < 1 << 53 else 0


def scalars(config: Object, prefix: str = "", depth: int = 3) -> dict[str, Scalar]:
    """Scalar entries of an object, those of objects inside under `outer.inner`; lists are left out."""
    found: dict[str, Scalar] = {}
    for key, value in config.items():
        if len(found) >= MAX_SCALARS:
            break
        if isinstance(value, dict) and depth > 1:
            found |= scalars(value, f"{prefix}{key}.", depth - 1)
        elif _is_scalar(value):
            found[prefix + key] = value
    return dict(list(found.items())[:MAX_SCALARS])


def _is_scalar(value: object) -> bool:
    match value:
        case str():
            return len(value) <= MAX_SCALAR_TEXT
        case int():
            return abs(value) < 1 << 63
    return isinstance(value, float)
