"""An engine is not here, cannot come, or what was to be made by one did not come to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from uml.core.errors.requests import NotFound
from uml.core.errors.root import UmlError, gib
from uml.core.quote import quoted


class EngineNotInstalled(UmlError):
    """The engine for this model is known and not here; the sentence holds the command."""

    code, status = "engine_not_installed", 409

    def __init__(self, engine: str, needed_for: str, command: str) -> None:
        super().__init__(
            f"{needed_for} needs the engine {engine}, which is not installed: {command}",
            engine=engine,
            command=command,
        )


class InstallRefused(UmlError):
    """An environment of an engine cannot be made, changed or removed as things are; nothing was done."""

    code, status = "install_refused", 409


class NoRoom(InstallRefused):
    """The disk has too little space."""

    code, status = "no_room", 507

    def __init__(self, what: str, needed: int, free: int, folder: Path) -> None:
        super().__init__(
            f"{what} needs {gib(needed)} of disk, and {gib(free)} are free in {folder}; "
            "make room, or take another data folder (UML_DATA)",
            needed=needed,
            free=free,
            folder=str(folder),
        )


class InstallFailed(UmlError):
    """An environment of an engine was begun and did not come to its end; nothing is left of it.

    log: the installer's last lines.
    """

    code, status = "install_failed", 500

    def __init__(self, what: str, reason: str, log: Sequence[str] = ()) -> None:
        super().__init__(
            f"{what} was not installed, and nothing of it is left: {reason}", what=what, reason=reason, log=list(log)
        )


class ConversionFailed(UmlError):
    """A model was to be made into another format, and nothing is left of that.

    log: the last lines of what made it.
    """

    code, status = "conversion_failed", 500

    def __init__(self, what: str, reason: str, log: Iterable[str] = ()) -> None:
        super().__init__(
            f"{what} was not converted, and nothing of it is left: {reason}", what=what, reason=reason, log=list(log)
        )


class InstallNotFound(NotFound):
    """No environment of an engine has this name."""

    code = "install_not_found"

    def __init__(self, name: str, there: Sequence[str] = (), command: str = "uml engine ls") -> None:
        hint = f"there are {', '.join(there)}" if there else f"try: {command}"
        super().__init__(f"there is no install {quoted(name)}; {hint}", param="engine", installs=list(there))
