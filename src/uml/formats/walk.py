"""A folder of models -> the paths worth inspecting, each once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from uml.core.errors import BadFile
from uml.formats.gguf.file import PartName, is_gguf
from uml.formats.hf.folder import is_hf_folder
from uml.formats.hf.weights import SHARD_NAME
from uml.formats.legacy.model import is_legacy
from uml.formats.onnx import GENAI_CONFIG
from uml.formats.reader import cannot_read, read_start
from uml.formats.sentence import is_sentence_folder

MAX_DEPTH = 8
"""Folders below the root; a Hugging Face cache needs five, LM Studio three."""
UNFINISHED = (".part", ".incomplete", ".tmp", ".crdownload", ".aria2", ".download")
PIPELINE = "model_index.json"
"""What a folder of Diffusers begins with."""
MODEL_SUFFIXES = (".gguf", ".ggml", ".onnx", ".safetensors")


def candidates(folder: Path) -> Iterator[Path]:
    """Paths under a folder that `inspect` should see, sorted, each once.

    A GGUF file once for all its parts, a folder that is one model as the folder, bare .onnx and .safetensors
    files, .bin files of the legacy generations. Hidden folders and unfinished downloads are passed over, and
    folders that cannot be read. Raises BadFile where `folder` itself cannot be read.
    """
    try:
        with os.scandir(folder):
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            raise cannot_read(folder, error) from error
        raise BadFile(folder, f"is no usable path: {error}") from error
    return _once(_walk(folder, MAX_DEPTH, set()))


def _once(paths: Iterator[Path]) -> Iterator[Path]:
    """Leave out a file or folder that was there under another name."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        identity = _identity(path)
        if identity is not None and identity not in seen:
            seen.add(identity)
            yield path


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _walk(folder: Path, depth: int, visited: set[tuple[int, int]]) -> Iterator[Path]:
    identity = _identity(folder)
    if identity is None or identity in visited:
        return
    visited.add(identity)
    folders, files = listing(folder)
    ggufs = [name for name in files if name.lower().endswith(".gguf")]
    yield from _first_parts(folder, ggufs)
    if is_model_folder(files) or is_sentence_folder(folder, files):
        if not ggufs:
            yield folder
            return
        # The same model in another format; the GGUF files stand for it.
        files = []
    # The parts of an image pipeline look like models of their own.
    if PIPELINE in files:
        return
    yield from (folder / name for name in _bare(folder, files))
    if depth > 0:
        for name in folders:
            yield from _walk(folder / name, depth - 1, visited)


def listing(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted; hidden and unfinished ones left out."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.endswith(UNFINISHED):
                    continue
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError:
        return [], []
    return sorted(folders), sorted(files)


def is_model_folder(files: list[str]) -> bool:
    """Whether a folder with these files is one model."""
    if GENAI_CONFIG in files:
        return True
    if "config.json" in files and any(name.endswith(".engine") for name in files):
        return True
    return is_hf_folder(files)


def _first_parts(folder: Path, names: list[str]) -> Iterator[Path]:
    """Each GGUF file, of a split one the first part that is there."""
    seen: set[tuple[str, int]] = set()
    for name in names:
        part = PartName.of(folder / name)
        if part is not None:
            if (part.stem, part.count) in seen:
                continue
            seen.add((part.stem, part.count))
        yield folder / name


def _bare(folder: Path, names: list[str]) -> Iterator[str]:
    """Model files that belong to no folder."""
    for name in names:
        shard = SHARD_NAME.fullmatch(name)
        if name.lower().endswith(".gguf") or (shard and int(shard["number"]) > 1):
            continue
        if name.lower().endswith(MODEL_SUFFIXES) or (name.endswith(".bin") and _has_model_magic(folder / name)):
            yield name


def _has_model_magic(path: Path) -> bool:
    """Anything may be called .bin."""
    try:
        start = read_start(path, 4)
    except BadFile:
        return False
    return is_legacy(start) or is_gguf(start)
