"""What is on disk cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uml.core.errors.root import UmlError


class BadFile(UmlError):
    """Something on disk cannot be used. No engine is started for it."""

    code, status = "bad_file", 422

    def __init__(self, path: Path, message: str, **details: Any) -> None:
        super().__init__(f"{path}: {message}", path=str(path), **details)
        self.path = path


class CorruptFile(BadFile):
    """What was read is not what the format says."""

    code = "corrupt_file"

    def __init__(self, path: Path, read: str, expected: str = "", offset: int | None = None) -> None:
        where = f" at byte {offset}" if offset is not None else ""
        wish = f", expected {expected}" if expected else ""
        super().__init__(path, f"{read}{where}{wish}", read=read, expected=expected, offset=offset)


class MissingShard(BadFile):
    """A part of a split model is not there."""

    code = "missing_shard"

    def __init__(self, path: Path, missing: Sequence[str]) -> None:
        names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        super().__init__(path, f"part of the model is missing: {names}", missing=list(missing))


class UnsupportedFormat(BadFile):
    """A format that was recognised, and that no engine of ours runs."""

    code = "unsupported_format"
