"""What a graph is made of, as far as it decides how the runtime is told to load it."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from uml.planning.genai_weights import MOST_FOLDED

QUANTIZED: Final = b"MatMulNBits"
"""The operator that multiplies by weights of 8 bits and fewer; a graph's file has its name in it as it is."""


def folding(graph: Path) -> Mapping[str, str]:
    """Session options (`onnxruntime_session_options_config_keys.h`) on what is computed while a graph is loaded.

    A matrix that is not quantized would be turned at every token instead.
    """
    if not _has(graph, QUANTIZED):
        return {}
    return {"optimization.constant_folding_max_output_size_in_bytes": str(MOST_FOLDED)}


def _has(path: Path, name: bytes) -> bool:
    """Whether bytes stand in a file; not where there is none, which the runtime says better."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(name) >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False
