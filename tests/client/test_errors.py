from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from uml.client import from_wire
from uml.client.wire import Event, events
from uml.core.errors import (
    BadFile,
    BadKey,
    BadRequest,
    CorruptFile,
    DoesNotFit,
    NotFound,
    Overloaded,
    UmlError,
    UnsupportedParameter,
)


def tree(root: type[UmlError]) -> Iterator[type[UmlError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("kind", sorted(set(tree(UmlError)), key=str))
def test_every_class_survives_the_wire(kind: type[UmlError]) -> None:
    body = {"error": {"message": "what", "type": "t", "param": "p", "code": kind.code, "details": {"path": "/x"}}}
    error = from_wire(kind.status, body)
    assert isinstance(error, kind) or kind.code == type(error).code
    assert (error.message, str(error), error.param, error.details) == ("what", "what", "p", {"path": "/x"})
    assert error.as_dict()["error"]["code"] == kind.code
    assert error.status == kind.status


def test_parts_keep_their_values() -> None:
    sent = DoesNotFit("big", 10 << 30, 5 << 30)
    got = from_wire(507, sent.as_dict())
    assert type(got) is DoesNotFit and got.as_dict() == sent.as_dict()
    broken = from_wire(422, CorruptFile(Path("/m/x.gguf"), "magic XXXX", "GGUF", 0).as_dict())
    assert isinstance(broken, BadFile) and broken.path == Path("/m/x.gguf")


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, {"error": {"message": "no", "code": 404}}, NotFound, "no"),
        (401, {"error": "who are you"}, BadKey, "who are you"),
        (503, None, Overloaded, "answered 503"),
        (500, ["x"], UmlError, "answered 500"),
        (400, {"error": {"message": "m", "code": "of_the_future"}}, BadRequest, "m"),
        (400, {"error": {"message": "m", "code": "unsupported_parameter"}}, UnsupportedParameter, "m"),
        (418, {"error": {}}, UmlError, ""),
    ],
)
def test_what_is_not_ours_goes_by_its_status(status: int, body: object, kind: type[UmlError], words: str) -> None:
    error = from_wire(status, body)
    assert type(error) is kind and words in error.message


def test_events_are_read_as_the_standard_has_them() -> None:
    lines = [
        "event: progress",
        'data: {"a": 1}',
        "",
        ": comment",
        "data: one",
        "data:two",
        "",
        "id: 7",
        "",
        "data: cut",
    ]
    assert list(events(lines)) == [Event("progress", '{"a": 1}'), Event("message", "one\ntwo")]
    assert Event("x", '{"a": 1}').value == {"a": 1}
