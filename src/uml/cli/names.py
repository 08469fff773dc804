"""What a user calls a model: an id, an alias or a path."""

from __future__ import annotations

import os
from pathlib import Path

from uml.client.client import Client


def as_path(name: str) -> Path | None:
    """The path that is meant, from the root; None for an id or an alias.

    A path has a separator, begins with `~` or `.`, or ends as model files do; aliases such as
    `Qwen/Qwen2.5-0.5B` have a separator too, so such a name must be there to be a path.
    """
    path = Path(name).expanduser()
    looks = name.startswith(("~", ".", "/")) or name.lower().endswith((".gguf", ".onnx", ".bin", ".safetensors"))
    there = (os.sep in name or looks) and path.exists()
    return path.absolute() if there or looks else None


def name_for(client: Client, name: str) -> str:
    """The name by which a server knows the model; a path that it never saw is registered there."""
    path = as_path(name)
    return str(client.add(path)["id"]) if path else name
