"""The program cannot start here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uml.core.errors.root import UmlError


class SetupError(UmlError):
    """The program cannot start here as it was asked to."""

    code = "setup_error"


class BadSetting(SetupError):
    """A setting that is not what it takes, whether a flag, a variable or the file says it; or one that there is not."""

    code = "bad_setting"


class PortTaken(SetupError):
    """Something else listens on the port."""

    code = "port_taken"

    def __init__(self, host: str, port: int, owner: str = "another program") -> None:
        super().__init__(f"port {port} on {host} is taken by {owner}; choose another: uml serve --port {port + 1}")


class FolderNotWritable(SetupError):
    """The data folder cannot be written. full: for want of room on its disk, or of a quota."""

    code = "folder_not_writable"

    def __init__(self, path: Path, reason: str, *, full: bool = False) -> None:
        what = "make room there, or set UML_DATA to a folder elsewhere" if full else "set UML_DATA to a folder of yours"
        super().__init__(f"cannot write to {path}: {reason}; {what}", path=str(path))


class AlreadyRunning(SetupError):
    """A server of the same data folder is up."""

    code = "already_running"

    def __init__(self, url: str, pid: int) -> None:
        super().__init__(f"a server already runs at {url} (process {pid}); stop it with: uml stop", url=url, pid=pid)


class SandboxUnavailable(SetupError):
    """Workers are to be confined, and this system does not offer what that takes."""

    code = "sandbox_unavailable"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f'the setting sandbox is "required", and this system lacks {"; and ".join(missing)}; '
            '"auto" confines workers as far as it can',
            missing=list(missing),
        )


class NoServer(SetupError):
    """A command that needs a server found none."""

    code, status = "no_server", 503

    def __init__(self, url: str | None = None) -> None:
        where = f" at {url}" if url else ""
        super().__init__(f"no server answers{where}; start one with: uml serve")
