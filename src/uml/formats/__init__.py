"""Readers of model files: headers only, never weights.

    inspect(path)      -> ModelInfo   what is it? told from the bytes, not from the name
    candidates(folder) -> paths       where to look

The order in which formats are asked is in `inspect`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from uml.core.errors import BadFile
from uml.core.model import READERS, Format, ModelInfo, Role
from uml.formats.gguf.file import inspect_gguf, is_gguf
from uml.formats.hf.folder import CONFIG, inspect_bare_weights, inspect_hf
from uml.formats.hf.weights import reject_pointer
from uml.formats.legacy.model import inspect_legacy, is_legacy
from uml.formats.onnx import GENAI_CONFIG, inspect_genai, inspect_onnx, looks_like_onnx
from uml.formats.pytorch import is_pytorch
from uml.formats.reader import cannot_read, read_start
from uml.formats.safetensors import is_safetensors
from uml.formats.seen import what_was_seen
from uml.formats.tensorrt import inspect_tensorrt
from uml.formats.walk import PIPELINE, candidates, is_model_folder, listing

__all__ = ["candidates", "inspect"]

START = 512
"""Bytes from which a file's format is told."""
MAX_COMPANIONS = 8
"""GGUF files in one folder up to which each is looked at, to tell the model from what goes with it."""


def inspect(path: Path) -> ModelInfo:
    """What a file or folder is.

    A file that belongs to a model folder (a shard beside its config.json) stands for the folder, a part of a
    split GGUF for all parts. What is no model that we know has Format.UNKNOWN, and `reason` says what was seen.

    Raises CorruptFile, MissingShard or UnsupportedFormat for what is of a known format and broken, BadFile for
    what cannot be read or is not there.
    """
    try:
        status = path.stat()
        return _folder(path) if stat.S_ISDIR(status.st_mode) else _file(path, status.st_size)
    except OSError as error:
        raise cannot_read(path, error) from error
    except ValueError as error:
        raise BadFile(path, f"is no usable path: {error}") from error


def _file(path: Path, size: int) -> ModelInfo:
    start = read_start(path, START)
    reject_pointer(path, start)
    if is_gguf(start):
        return inspect_gguf(path)
    if is_legacy(start):
        return inspect_legacy(path)
    if is_safetensors(start, size) or is_pytorch(start):
        return _of_its_folder(path) or inspect_bare_weights(path)
    if looks_like_onnx(start) and (found := _of_its_folder(path) or inspect_onnx(path)):
        return found
    if path.suffix == ".engine" and (found := _of_its_folder(path)):
        return found
    return _unknown(path, size, what_was_seen(path, start))


def _of_its_folder(path: Path) -> ModelInfo | None:
    """The model of the folder that a file lies in, if the file is part of it."""
    names = listing(path.parent)[1]
    if not is_model_folder(names):
        return None
    found = _model_folder(path.parent, names)
    return found if found and path.name in {file.name for file in found.files} else None


def _folder(path: Path) -> ModelInfo:
    # Read on its own, so that a refusal is reported and not an empty folder.
    with os.scandir(path):
        pass
    folders, names = listing(path)
    if any(name.lower().endswith(".gguf") for name in names):
        return _gguf_folder(path)
    if found := _model_folder(path, names):
        return found
    single = [name for name in names if name.endswith((".safetensors", ".onnx", ".bin", ".pt", ".pth"))]
    if len(single) == 1 and CONFIG not in names:
        return inspect(path / single[0])
    if PIPELINE in names:
        return _unknown(path, 0, f"a Diffusers pipeline ({PIPELINE}), which makes images, no language model")
    shown = ", ".join((*names[:5], *(f"{name}/" for name in folders[:5]))) or "nothing"
    return _unknown(path, 0, f"a folder without a model; it holds {shown}")


def _gguf_folder(path: Path) -> ModelInfo:
    """The GGUF model in a folder, if there is one beside its projector, drafts and adapters."""
    # Files come before folders: these are the folder's own.
    own = [found for found in candidates(path) if found.parent == path and found.suffix.lower() == ".gguf"]
    if len(own) == 1:
        return inspect(own[0])
    if len(own) <= MAX_COMPANIONS:
        models = [found for found in map(inspect, own) if found.role in (Role.TEXT, *READERS)]
        if len(models) == 1:
            return models[0]
    names = ", ".join(found.name for found in own[:5]) + (" ..." if len(own) > 5 else "")
    return _unknown(path, 0, f"a folder of {len(own)} GGUF models ({names}); name one of them")


def _model_folder(path: Path, names: list[str]) -> ModelInfo | None:
    if GENAI_CONFIG in names:
        return inspect_genai(path, names)
    return inspect_tensorrt(path, names) or inspect_hf(path, names)


def _unknown(path: Path, size: int, seen: str) -> ModelInfo:
    return ModelInfo(
        path=path,
        format=Format.UNKNOWN,
        role=Role.UNKNOWN,
        confidence=0.0,
        reason=seen,
        size_bytes=size,
        name=path.name,
    )
