"""Which models a repository has, and which one is meant: pure functions of its list of files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from uml.core.errors import RemoteNotFound
from uml.core.quote import quoted
from uml.formats.gguf.file import PartName
from uml.formats.walk import MODEL_SUFFIXES, is_model_folder
from uml.remote.hub import Listed
from uml.remote.names import HubName

_LABEL: Final = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d[A-Z0-9_]*|TQ\d_\d|BF16|FP?16|FP?32|MXFP4[A-Z0-9_]*|NVFP4))(?=$|[-._])", re.IGNORECASE
)
_BESIDE: Final = re.compile(r"(?:^|[-._])(?:mmproj|imatrix)(?=$|[-._])", re.IGNORECASE)
"""What a GGUF file is called that goes with a model and is none."""
MAX_FILES: Final = 5000
"""Files of one folder that are mirrored."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One model of a repository.

    label: its quantization as its name tells it, the name of its file where it tells none; empty for the
    repository's folder. path: its first file, or its folder (empty for the root). files: all that belong to it.
    """

    label: str
    path: str
    files: tuple[Listed, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)


def choices(name: HubName, files: Sequence[Listed]) -> tuple[Choice, ...]:
    """The models that are meant by a name: all there are, or those that its pick names. Raises RemoteNotFound."""
    ggufs, folders = gguf_models(files), _folders(files)
    found = _picked(name.pick, ggufs, folders) if name.pick else (ggufs or folders)
    if not found and not name.pick:
        found = tuple(_alone(file) for file in files if file.path.lower().endswith(MODEL_SUFFIXES))
    if not found:
        raise RemoteNotFound(name.shown, _nothing(name.pick, files, ggufs))
    return tuple(found)


def beside(files: Sequence[Listed]) -> tuple[str, ...]:
    """GGUF files that go with a model: projectors and the like."""
    return tuple(file.path for file in files if _is_gguf(file.path) and _BESIDE.search(PurePosixPath(file.path).stem))


def gguf_models(files: Sequence[Listed]) -> tuple[Choice, ...]:
    """Every GGUF model once, with all parts of a split one, smallest first."""
    groups: dict[tuple[str, str], list[Listed]] = {}
    for file in sorted(files, key=lambda file: file.path):
        if not _is_gguf(file.path) or _BESIDE.search(PurePosixPath(file.path).stem):
            continue
        part = PartName.of(Path(file.path))
        folder = str(PurePosixPath(file.path).parent)
        groups.setdefault((folder, f"{part.stem}/{part.count}" if part else file.path), []).append(file)
    found = [Choice(label(group[0].path), group[0].path, tuple(group)) for group in groups.values()]
    labels = [choice.label for choice in found]
    # Two files may be of one quantization: then only their paths tell them apart.
    apart = [c if labels.count(c.label) == 1 else Choice(c.path, c.path, c.files) for c in found]
    return tuple(sorted(apart, key=lambda choice: choice.size_bytes))


def label(path: str) -> str:
    """The quantization in the name of a file, as people write it; the name itself where there is none."""
    part = PartName.of(Path(path))
    stem = part.stem if part else PurePosixPath(path).stem
    found = _LABEL.findall(stem)
    return str(found[-1]).upper() if found else PurePosixPath(path).name


def _is_gguf(path: str) -> bool:
    return path.lower().endswith(".gguf")


def _folders(files: Sequence[Listed]) -> tuple[Choice, ...]:
    """The root if it is one model, else the folders in it that are."""
    names: dict[str, list[Listed]] = {}
    for file in files:
        folder = str(PurePosixPath(file.path).parent)
        names.setdefault("" if folder == "." else folder, []).append(file)
    found = [
        folder for folder, own in sorted(names.items()) if is_model_folder([PurePosixPath(f.path).name for f in own])
    ]
    if "" in found:
        found = [""]
    return tuple(_folder(folder, files) for folder in found)


def _folder(folder: str, files: Sequence[Listed]) -> Choice:
    """A folder with what lies in it and right below: a chain of sentence-transformers has folders of its own."""
    start = f"{folder}/" if folder else ""
    own = [file for file in files if file.path.startswith(start) and file.path.removeprefix(start).count("/") <= 1]
    return Choice(folder, folder, tuple(own[:MAX_FILES]))


def _alone(file: Listed) -> Choice:
    return Choice(file.path, file.path, (file,))


def _picked(pick: str, ggufs: Sequence[Choice], folders: Sequence[Choice]) -> Sequence[Choice]:
    """By file, by quantization, by a word in the name; or a folder. The first rule that finds something decides."""
    wanted = pick.lower().strip("/")
    rules = (
        lambda choice: wanted in (file.path.lower() for file in choice.files),
        lambda choice: wanted == choice.label.lower(),
        lambda choice: wanted == label(choice.path).lower(),
        lambda choice: wanted == label(choice.path).lower().removeprefix("ud-"),
        lambda choice: bool(re.search(rf"(?:^|[-._/]){re.escape(wanted)}(?=$|[-._/])", choice.path.lower())),
    )
    for rule in rules:
        if found := [choice for choice in ggufs if rule(choice)]:
            return found
    inside = [folder for folder in folders if wanted == folder.path.lower()]
    return inside or [folder for folder in folders if wanted in (file.path.lower() for file in folder.files)]


def _nothing(pick: str, files: Sequence[Listed], ggufs: Sequence[Choice]) -> str:
    if pick and ggufs:
        there = ", ".join(choice.label for choice in ggufs[:20]) + (" and more" if len(ggufs) > 20 else "")
        return f"it has no {quoted(pick)}; there is {there}"
    shown = ", ".join(file.path for file in files[:5]) + (" and more" if len(files) > 5 else "")
    return f"it has no {quoted(pick)}; it holds {shown}" if pick else f"it holds no model: {shown or 'nothing'}"
