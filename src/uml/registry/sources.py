"""What other programs keep, read where it lies: the Hugging Face cache, LM Studio, Ollama."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from uml.core.errors import BadFile, CorruptFile
from uml.registry.entries import Found
from uml.registry.ollama import manifests
from uml.registry.paths import is_folder

Candidates = Callable[[Path], Iterable[Path]]

_REVISION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_MAX_REF_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder in which a program keeps its models in its own way."""

    source: Literal["huggingface", "lmstudio", "ollama"]
    folder: Path


def discover(environ: Mapping[str, str], home: Path, system: Path = Path("/")) -> tuple[Shelf, ...]:
    """The shelves of this user that exist.

    home, system: where `~` and `/usr/share` are; tests point them elsewhere.
    """

    def expand(text: str) -> Path:
        return home / text[2:] if text.startswith("~/") else Path(text)

    cache = expand(environ.get("XDG_CACHE_HOME") or "~/.cache")
    hub = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    hf_home = expand(environ.get("HF_HOME") or "") if environ.get("HF_HOME") else cache / "huggingface"
    own = environ.get("OLLAMA_MODELS")
    ollama = [expand(own)] if own else [home / ".ollama/models", system / "usr/share/ollama/.ollama/models"]
    shelves = (
        Shelf("huggingface", expand(hub) if hub else hf_home / "hub"),
        Shelf("lmstudio", home / ".lmstudio/models"),
        Shelf("lmstudio", cache / "lm-studio/models"),
        *(Shelf("ollama", folder) for folder in ollama),
    )
    return tuple(shelf for shelf in shelves if is_folder(shelf.folder))


def discover_here() -> tuple[Shelf, ...]:
    """The shelves of the user who runs this."""
    try:
        return discover(os.environ, Path.home())
    except RuntimeError:  # a user without a home, as in a container with any user id
        return ()


def found_on(shelf: Shelf, candidates: Candidates) -> Iterator[Found | BadFile]:
    """What may be a model on a shelf, and what cannot be made sense of."""
    match shelf.source:
        case "huggingface":
            return _huggingface(shelf.folder, candidates)
        case "lmstudio":
            return _lmstudio(shelf.folder, candidates)
        case "ollama":
            return manifests(shelf.folder)


def found_in(folder: Path, candidates: Candidates) -> Iterator[Found]:
    """What may be a model in a folder of the user's own."""
    for path in candidates(folder):
        yield Found.at(path)


def _huggingface(cache: Path, candidates: Candidates) -> Iterator[Found | BadFile]:
    """`models--ORG--NAME/snapshots/REVISION/...`; of what several revisions have, the first one's.

    A revision holds only what was downloaded of it: one file may be here, another there.
    """
    for folder in sorted(cache.glob("models--*")):
        repository = folder.name.removeprefix("models--").replace("--", "/")
        try:
            snapshots = _snapshots(folder)
        except BadFile as error:
            yield error
            continue
        seen: set[str] = set()
        for snapshot in snapshots:
            for path in candidates(snapshot):
                inside = path.relative_to(snapshot).as_posix()
                if inside in seen:
                    continue
                seen.add(inside)
                whole = inside == "."
                yield Found(
                    key=f"huggingface:{repository}" + ("" if whole else f"/{inside}"),
                    path=path,
                    source="huggingface",
                    title=repository.rpartition("/")[2] if whole else "",
                    repository=repository,
                )


def _snapshots(folder: Path) -> list[Path]:
    """The revisions that are there: the one that `main` points to, then the others, the newest first."""
    reference = folder / "refs" / "main"
    try:
        with reference.open("rb") as file:
            revision = file.read(_MAX_REF_BYTES).decode("ascii", "replace").strip()
    except OSError:
        revision = None
    if revision is not None and not _REVISION.fullmatch(revision):
        raise CorruptFile(reference, f"names the revision {revision[:80]!r}", "a commit or a branch")
    there = [path for path in (folder / "snapshots").glob("*") if is_folder(path)]
    return sorted(there, key=lambda path: (path.name != revision, -path.stat().st_mtime_ns))


def _lmstudio(folder: Path, candidates: Candidates) -> Iterator[Found]:
    """`PUBLISHER/REPOSITORY/FILE.gguf`."""
    for path in candidates(folder):
        parts = path.relative_to(folder).parts
        whole = len(parts) == 2 and is_folder(path)
        repository = "/".join(parts[:2]) if len(parts) >= 3 or whole else ""
        yield Found(str(path), path, "lmstudio", repository=repository)
