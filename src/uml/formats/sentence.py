"""Folders of sentence-transformers: modules.json names a chain of folders, of which the first is the model.

The model lies in the root in most of them, in a folder of its own (`0_Transformer`) in older ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uml.core.errors import BadFile
from uml.core.model import ModelInfo
from uml.formats.bounded_json import parse, read_object, text
from uml.formats.reader import opened, read_at

MODULES = "modules.json"
_FLAG = "pooling_mode_"
_WAYS = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
MAX_BYTES = 1 << 20
MAX_MODULES = 32


def modules(folder: Path, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Folder, empty for the root, and type of every module in their order.

    Empty where the file is not there or is another program's: its name is a common one. A folder that is not
    right below is left out.
    """
    path = folder / MODULES
    if MODULES not in names:
        return ()
    try:
        with opened(path) as (file, size):
            found = parse(path, read_at(file, 0, size)) if size <= MAX_BYTES else None
    except BadFile:
        return ()
    if not isinstance(found, list) or len(found) > MAX_MODULES:
        return ()
    pairs = [(text(entry, "path").strip("/"), text(entry, "type")) for entry in found if isinstance(entry, dict)]
    return tuple((name, kind) for name, kind in pairs if kind and _is_inside(name))


def pooled_by(folder: Path) -> str:
    """How its `N_Pooling` folder says that the states of tokens become one vector: `mean`, `cls` or `last`.

    Another way by the name that it has there; empty where nothing is said. Raises BadFile, CorruptFile.
    """
    path = min(folder.glob("*_Pooling/config.json"), default=None)
    if path is None:
        return ""
    found = read_object(path, MAX_BYTES)
    said = [key.removeprefix(_FLAG) for key, value in found.items() if key.startswith(_FLAG) and value is True]
    # Newer versions name it in one word.
    way = "+".join(said) or text(found, "pooling_mode")
    return _WAYS.get(way, way)


def _is_inside(name: str) -> bool:
    return "/" not in name and "\\" not in name and "\0" not in name and name not in (".", "..")


def is_sentence_folder(folder: Path, names: Sequence[str]) -> bool:
    """Whether a folder with these files has its model in a folder inside."""
    first = next(iter(modules(folder, names)), ("", ""))[0]
    return bool(first) and (folder / first).is_dir()


def with_modules(
    info: ModelInfo, folder: Path, chain: Sequence[tuple[str, str]], root: Sequence[Path] = ()
) -> ModelInfo:
    """The model with all that goes with it: `root`, files of the folder itself, and the folders of its modules."""
    files = dict.fromkeys((*info.files, *root, *files_of(folder, chain)))
    return replace(info, path=folder, files=tuple(files), size_bytes=sum(path.stat().st_size for path in files))


def files_of(folder: Path, chain: Sequence[tuple[str, str]]) -> tuple[Path, ...]:
    """What lies in the folders of these modules."""
    inside = (folder / name for name, _ in chain if name and (folder / name).is_dir())
    return tuple(path for each in inside for path in sorted(each.iterdir()) if _belongs(path))


def _belongs(path: Path) -> bool:
    return path.suffix in (".json", ".txt", ".safetensors", ".bin", ".model") and path.is_file()
