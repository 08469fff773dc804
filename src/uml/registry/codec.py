"""JSON back into nouns: the inverse of `core.jsonable`, and strict.

A field that is not known, or a value of another type, is an error: a row written by another
version is read again from its file rather than half understood. A field that is missing takes its
default, where it has one, so that a noun may grow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from uml.core.jsonable import jsonable

Noun = TypeVar("Noun")
Decoder = Callable[[Any], Any]


class CodecError(ValueError):
    """Text that is not the JSON form of this noun."""


def to_json(noun: object) -> str:
    """A noun as ASCII text: whatever a file's header claims to be text can be stored."""
    return json.dumps(jsonable(noun), separators=(",", ":"))


def from_json(kind: type[Noun], text: str) -> Noun:
    """The noun that `to_json` wrote. Raises CodecError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}") from error
    decode: Decoder = _decoder(cast(Hashable, kind))
    noun: Noun = decode(value)
    return noun


@cache
def _decoder(kind: Any) -> Decoder:
    """How a value of this type is read; worked out once a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _one_of(arguments)
    if origin is Literal:
        return _choice(arguments)
    if origin is tuple:
        return _many(_decoder(arguments[0]))
    if origin is Mapping:
        return _mapping(_decoder(arguments[1]))
    if kind is Path or (isinstance(kind, type) and issubclass(kind, Enum)):
        return _made_from_text(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind)
    return _float if kind is float else _exactly(kind)


def _exactly(kind: type) -> Decoder:
    def decode(value: Any) -> Any:
        if type(value) is not kind:
            raise CodecError(f"{value!r:.80} is not {kind.__name__}")
        return value

    return decode


def _float(value: Any) -> float:
    if type(value) not in (int, float):
        raise CodecError(f"{value!r:.80} is not a number")
    return float(value)


def _one_of(kinds: tuple[Any, ...]) -> Decoder:
    plain = {kind for kind in kinds if kind in (str, int, float, bool, NoneType)}
    others = [_decoder(kind) for kind in kinds if kind not in plain or kind is float]

    def decode(value: Any) -> Any:
        if type(value) in plain:
            return value
        for decoder in others:
            try:
                return decoder(value)
            except CodecError:
                continue
        raise CodecError(f"{value!r:.80} is none of the types expected here")

    return decode


def _choice(values: tuple[Any, ...]) -> Decoder:
    def decode(value: Any) -> Any:
        if value not in values:
            raise CodecError(f"{value!r:.80} is none of {values}")
        return value

    return decode


def _many(item: Decoder) -> Decoder:
    def decode(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise CodecError(f"{value!r:.80} is not an array")
        return tuple([item(each) for each in value])

    return decode


def _mapping(item: Decoder) -> Decoder:
    def decode(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise CodecError(f"{value!r:.80} is not an object")
        return {key: item(each) for key, each in value.items()}

    return decode


def _made_from_text(kind: Callable[[str], Any]) -> Decoder:
    def decode(value: Any) -> Any:
        if type(value) is not str:
            raise CodecError(f"{value!r:.80} is not text")
        try:
            return kind(value)
        except ValueError as error:
            raise CodecError(str(error)) from error

    return decode


def _dataclass(kind: type) -> Decoder:
    hints = get_type_hints(kind)
    decoders = {field.name: _decoder(hints[field.name]) for field in fields(kind)}
    needed = [field.name for field in fields(kind) if not _has_default(field)]

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise CodecError(f"{value!r:.80} is not an object")
        unknown = [name for name in value if name not in decoders]
        missing = [name for name in needed if name not in value]
        if unknown or missing:
            raise CodecError(f"{kind.__name__}: unknown {unknown}, missing {missing}")
        return kind(**{name: decoders[name](each) for name, each in value.items()})

    return decode


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING
