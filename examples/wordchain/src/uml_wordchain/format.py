"""The format: a text file that begins with a line of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from uml.core.model import Format, ModelInfo, Role

KIND: Final = "wordchain"
MARK: Final = b"wordchain 1\n"


def detect(path: Path) -> ModelInfo | None:
    """What a file is, told from its first bytes; None for anything else."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(MARK)) != MARK:
            return None
    size = path.stat().st_size
    return ModelInfo(
        path=path,
        format=Format.UNKNOWN,  # of the program's own formats it is none ...
        version=KIND,  # ... so it has a name of its own, which `EngineSpec.kinds` says
        role=Role.TEXT,
        confidence=1.0,
        reason="begins with the mark of a word chain",
        size_bytes=size,
        files=(path,),
        name=path.stem,
        context_length=4096,
        weight_bytes={"text": size},
    )
