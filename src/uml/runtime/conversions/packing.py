"""Weights into a new GGUF file, each piece from its place in an old one: by llama.cpp's code, in a child process."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.engine import Launch
from uml.core.errors import ConversionFailed, OutOfMemory, UmlError
from uml.core.model import Format
from uml.engines import llamacpp
from uml.engines.llamacpp.dryrun_library import library_path
from uml.formats import inspect
from uml.formats.gguf.tables import TENSOR_TYPES
from uml.runtime.conversions.workshop import Making
from uml.runtime.installs import child

CHILD: Final = Path(llamacpp.__file__).with_name("quantize_child.py")
LAST_LINES: Final = 40
_HEARD: Final = re.compile(r"^(\d+)% (.+)$")
_LAYER: Final = re.compile(r"blk\.(\d+)\.")


Confine = Callable[[Launch], Launch]
"""From the launch of a process that reads files of strangers to one that is kept in."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The new file: its head, its whole size, and pieces of tensors from where to where.

    tensors: what `quantize_child` reads of each: name, path, offset, rows, columns, from, to (types), at; and where
    it has them head (rows of a head that are put in pairs), plus (what is added to each number), and figures with
    important and each (a file of float32, where the importance of the columns begins in it, rows of one expert), and
    code (how bytes of FP8 become numbers of the type `from`).
    given: offset and bytes of what lies in no file.
    """

    head: bytes
    size_bytes: int
    tensors: tuple[Mapping[str, Any], ...]
    given: tuple[tuple[int, bytes], ...] = ()


def write(
    name: str,
    recipe: Recipe,
    file: Path,
    threads: int,
    tell: Callable[[Making], None],
    cancelled: Callable[[], bool] = lambda: False,
    program: Sequence[str] = (),
    confine: Confine = lambda launch: launch,
) -> None:
    """Write the file and read its head. name: of the model, for sentences; the job lies beside the file.

    program: what Python runs with the library's path and the job's, and fills in the weights; none: `CHILD`.
    confine: how that process is kept in.

    Raises OutOfMemory, ConversionFailed, Cancelled, OSError.
    """
    with file.open("wb") as out:
        out.write(recipe.head)
        for at, raw in recipe.given:
            out.seek(at)
            out.write(raw)
        out.truncate(recipe.size_bytes)
    _pack(name, recipe.tensors, file, threads, tell, cancelled, program, confine)


def _pack(
    name: str,
    tensors: Sequence[Mapping[str, Any]],
    file: Path,
    threads: int,
    tell: Callable[[Making], None],
    cancelled: Callable[[], bool],
    program: Sequence[str],
    confine: Confine,
) -> None:
    library = library_path()
    if library is None:
        raise ConversionFailed(name, "the library of llama.cpp that packs weights is not installed (xllamacpp)")
    kinds = {tensor[side] for tensor in tensors for side in ("from", "to")}
    known = {kind: TENSOR_TYPES[kind] for kind in kinds}
    types = {kind: (about.name, about.block, about.block_bytes) for kind, about in known.items()}
    job = file.with_name("job.json")
    job.write_text(json.dumps({"out": str(file), "threads": threads, "types": types, "tensors": tensors}))
    lines: deque[str] = deque(maxlen=LAST_LINES)

    def heard(line: str) -> None:
        lines.append(line)
        if found := _HEARD.match(line):
            layer = _LAYER.match(found[2])
            tell(Making(f"packing layer {layer[1]}" if layer else "packing", min(99.0, float(found[1]))))

    tell(Making("packing", 0))
    # It must not start a debugger on itself when it aborts.
    argv = (sys.executable, *(program or ("-I", str(CHILD))), str(library), str(job))
    launch = confine(Launch(argv, {"GGML_NO_BACKTRACE": "1"}, writes=(file.parent,), reads=(library,)))
    code = child.run(launch.argv, {**os.environ, **launch.environment}, heard, cancelled=cancelled)
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL) or any("MemoryError" in line for line in lines):
        raise OutOfMemory(name, "cpu")
    if code:
        raise ConversionFailed(name, _reason(lines, code), lines)
    try:
        found = inspect(file)
    except UmlError as error:
        raise ConversionFailed(name, error.message, lines) from error
    if found.format is not Format.GGUF:
        raise ConversionFailed(name, f"what was made is {found.format}", lines)


def _reason(lines: deque[str], code: int) -> str:
    errors = [line for line in lines if re.match(r"^[\w.]*(?:Error|Exception)\b:", line)]
    if errors:
        return errors[0].partition(": ")[2]  # what fails after it, on the way out, is not why
    told = next((line for line in reversed(lines) if not _HEARD.match(line)), "")
    return told or f"the process that packs weights ended with code {code}"
