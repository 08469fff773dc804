"""What an exit code says to a script."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from uml.core.errors import (
    BadFile,
    BadRequest,
    BadSetting,
    Cancelled,
    ContextLengthExceeded,
    DoesNotFit,
    ModelNotFound,
    NoServer,
    OutOfMemory,
    RemoteNotFound,
    UmlError,
)


class Exit(IntEnum):
    """Exit codes; 130 is what shells say of a program that Ctrl-C ended."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NO_SERVER = 3
    NOT_FOUND = 4
    DOES_NOT_FIT = 5
    BAD_FILE = 6
    INTERRUPTED = 130


MEANING: Final[Mapping[Exit, str]] = {
    Exit.OK: "done",
    Exit.ERROR: "any other error",
    Exit.USAGE: "the command line, an option or a setting is not right",
    Exit.NO_SERVER: "the command needs a server, and none answers",
    Exit.NOT_FOUND: "no model has this name",
    Exit.DOES_NOT_FIT: "the model does not fit, or memory ran out",
    Exit.BAD_FILE: "the file or folder cannot be used as a model",
    Exit.INTERRUPTED: "stopped by Ctrl-C",
}

_BY_CLASS: Final[tuple[tuple[type[UmlError], Exit], ...]] = (
    (NoServer, Exit.NO_SERVER),
    (ModelNotFound, Exit.NOT_FOUND),
    (RemoteNotFound, Exit.NOT_FOUND),
    (DoesNotFit, Exit.DOES_NOT_FIT),
    (OutOfMemory, Exit.DOES_NOT_FIT),
    (BadFile, Exit.BAD_FILE),
    (ContextLengthExceeded, Exit.ERROR),
    (BadRequest, Exit.USAGE),
    (BadSetting, Exit.USAGE),
    (Cancelled, Exit.INTERRUPTED),
)


def exit_for(error: UmlError) -> Exit:
    """The exit code of an error."""
    return next((code for kind, code in _BY_CLASS if isinstance(error, kind)), Exit.ERROR)
