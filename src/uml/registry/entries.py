"""The registry's own nouns: what was found, what is kept of it, and what a scan has to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from uml.core.model import ModelInfo, Scalar


@dataclass(frozen=True, slots=True)
class Found:
    """Something on disk that may be a model, before anything was read of it.

    key: what it is the same by at the next scan: its path, or its name where the source gives names
        that outlive a path (a new revision in the Hugging Face cache, a new pull in Ollama).
    title: what its id is made of; empty: the name of the file or folder.
    names: aliases that its source gives it.
    repository: `ORG/NAME` that it comes from; several models may share one.
    metadata, notes: what the source knows besides the file's own header.
    """

    key: str
    path: Path
    source: str = "folder"
    title: str = ""
    names: tuple[str, ...] = ()
    repository: str = ""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def at(cls, path: Path) -> Found:
        """A file or folder of the user's own, known by its path."""
        return cls(str(path), path)

    def enrich(self, info: ModelInfo) -> ModelInfo:
        """What the header says and what the source knows, together."""
        nameless = info.name in ("", self.path.name, self.path.stem)  # a blob's or a revision's hash
        return replace(
            info,
            name=self.title if self.title and nameless else info.name,
            metadata={**info.metadata, **self.metadata},
            notes=(*info.notes, *self.notes),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of one model.

    real: the path with all links resolved.
    signature: size, time and inode of every file; another one means that the model must be read again.
    fingerprint: the same for the same content, wherever it lies.
    """

    id: str
    found: Found
    info: ModelInfo
    real: str
    signature: str
    fingerprint: str
    present: bool = True


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a scan saw: ids of models, and what could not be read as (path, sentence)."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
