"""What a user calls a model: an id, an alias or a path."""

from __future__ import annotations

import os
from pathlib import Path

from uml.client.client import Client
from uml.core.errors import ModelNotFound, UmlError


def expanded(text: str | Path) -> Path:
    """A path with `~` for a user's home; a user that is not there stays as written, for whoever opens it to refuse."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # the other one raises


def as_path(name: str) -> Path | None:
    """The path that is meant, from the root; None for an id or an alias.

    A path has a separator, begins with `~` or `.`, or ends as model files do; aliases such as
    `Qwen/Qwen2.5-0.5B` have a separator too, so such a name must be there to be a path, and so must an address.
    """
    path = expanded(name)
    suffixes = (".gguf", ".ggml", ".onnx", ".bin", ".safetensors")
    looks = name.startswith(("~", ".", "/")) or ("://" not in name and name.lower().endswith(suffixes))
    if looks:
        return path.absolute()
    try:
        return path.absolute() if os.sep in name and path.exists() else None
    except OSError:  # not readable, or too long for a path
        return None


def path_hint(error: UmlError, name: object) -> str:
    """How to mean the file or folder that is here by a name which no model has; empty where there is none."""
    if isinstance(error, ModelNotFound) and isinstance(name, str) and name and os.path.exists(name):  # noqa: PTH110
        return f"there is a {'folder' if Path(name).is_dir() else 'file'} of this name here; to mean it: ./{name}"
    return ""


def name_for(client: Client, name: str) -> str:
    """The name by which a server knows the model; a path that it never saw is registered there."""
    path = as_path(name)
    return str(client.add(path)["id"]) if path else name
