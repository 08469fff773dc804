"""From an error on the wire back to the class that it was: one mapping over the whole tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from uml.core.errors import (
    BadFile,
    BadKey,
    BadRequest,
    BodyTooLarge,
    NotAllowed,
    NotFound,
    Overloaded,
    UmlError,
)

_BY_STATUS: Final[Mapping[int, type[UmlError]]] = {
    400: BadRequest,
    401: BadKey,
    403: NotAllowed,
    404: NotFound,
    413: BodyTooLarge,
    422: BadRequest,
    503: Overloaded,
}
"""For a code that is none of ours: an engine's own word, or a newer server's."""


@cache
def _classes() -> Mapping[str, type[UmlError]]:
    """Code -> class. A class that takes over its parent's code is told by its parent."""
    found: dict[str, type[UmlError]] = {}
    for kind in _tree(UmlError):
        found.setdefault(kind.code, kind)
    return found


def _tree(root: type[UmlError]) -> Iterator[type[UmlError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def from_wire(status: int, body: object) -> UmlError:
    """The error in the JSON body of a reply outside 2xx, or of an error event in a stream.

    status: of the reply; decides the class where `code` is unknown.
    The sentence, `param` and `details` are the server's, word for word.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, Mapping):
        return _made(
            _BY_STATUS.get(status, UmlError), f"the server answered {status} and gave no reason that can be read", {}
        )
    code = error.get("code")
    kind = _classes().get(code) if isinstance(code, str) else None
    details = error.get("details")
    parts: dict[str, Any] = dict(details) if isinstance(details, Mapping) else {}
    if kind is None:
        kind = _BY_STATUS.get(status, UmlError)
        if code is not None:
            parts.setdefault("code", code)
    param = error.get("param")
    return _made(kind, str(error.get("message", "")), parts, param if isinstance(param, str) else None)


def _made(kind: type[UmlError], message: str, details: dict[str, Any], param: str | None = None) -> UmlError:
    # Constructors make a sentence from parts; here the sentence has been made already, by the server.
    error = kind.__new__(kind, message)
    UmlError.__init__(error, message, param=param)
    error.details = details
    if isinstance(error, BadFile):
        error.path = Path(str(details.get("path", "")))
    return error
