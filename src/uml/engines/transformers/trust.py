"""Code that comes with a model: it runs only where a profile names its very content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uml.core.errors import LoadFailed


def content_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of the Python files of a folder, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        data = path.read_bytes()
        total.update(f"{path.relative_to(folder).as_posix()}\0{len(data)}\0".encode() + data)
    return total.hexdigest()


def check(model: str, folder: Path, trusted: str) -> bool:
    """Whether code of the model may run: it brings some, and `trusted` is its hash.

    Raises LoadFailed where it brings some that is not trusted, and where its configuration names code or kernels that
    would have to be fetched.
    """
    config = _read(folder / "config.json")
    kernel = next((value for name, value in config.items() if name.endswith("attn_implementation")), None)
    if isinstance(kernel, str) and "/" in kernel:
        raise LoadFailed(model, f"its configuration names a program to fetch for its attention ({kernel}); refused")
    code = config.get("auto_map") or _read(folder / "tokenizer_config.json").get("auto_map")
    if not code:
        return False
    if "--" in json.dumps(code):
        raise LoadFailed(model, "its configuration names code of another repository; refused: only files beside it run")
    found = content_hash(folder)
    if trusted.lower() == found:
        return True
    names = ", ".join(sorted(path.name for path in folder.rglob("*.py"))[:8]) or "none are here"
    reason = "changed since it was trusted" if trusted else "not trusted"
    raise LoadFailed(
        model,
        f"it needs code of its own ({names}), which is {reason}; read these files, and if you trust them, "
        f"load it with trust_remote_code={found}",
        sha256=found,
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
