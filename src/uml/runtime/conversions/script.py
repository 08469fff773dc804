"""GGUF by the converter of a llama.cpp checkout, for architectures that are not converted here.

`convert_hf_to_gguf.py` is a program of others that the user names; it is run as a process, in an interpreter that
brings torch and Transformers. It takes the `gguf` package of its own checkout.
"""

from __future__ import annotations

import os
import re
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.errors import BadRequest, ConversionFailed, OutOfMemory, UmlError
from uml.core.model import Format, ModelInfo
from uml.formats import inspect
from uml.runtime.conversions.foreign import DIE_WITH_PARENT, LAST_LINES, QUIET, reason
from uml.runtime.conversions.proof import prove
from uml.runtime.conversions.workshop import Making, trouble, workshop
from uml.runtime.installs import child

PRECISIONS: Final = ("f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0", "auto")
"""What its --outtype takes."""
_RUN: Final = (
    f"{DIE_WITH_PARENT}import os, runpy\n"
    "sys.argv = sys.argv[1:]\n"
    # As if the interpreter had been started with it: it imports what lies beside it.
    "sys.path[0] = os.path.dirname(sys.argv[0])\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n"
)
_LAYER: Final = re.compile(r"\bblk\.(\d+)\.")
_WRITING: Final = re.compile(r"\bWriting:\s+(\d+)%")


@dataclass(frozen=True, slots=True)
class Order:
    """What to make of which model, by which script, and where.

    name: of the model, for sentences. precision: of `PRECISIONS`. python: the interpreter that runs the script.
    """

    name: str
    info: ModelInfo
    precision: str
    place: Path
    script: Path
    python: Path


def check(script: Path) -> None:
    """Raises BadRequest where it is no script."""
    if script.is_dir():
        raise BadRequest(f"{script} is a folder; name convert_hf_to_gguf.py in it", param="converter")
    if not script.is_file():
        raise BadRequest(
            f"{script} is not there; name convert_hf_to_gguf.py of a llama.cpp checkout", param="converter"
        )


def convert(order: Order, tell: Callable[[Making], None], cancelled: Callable[[], bool] = lambda: False) -> Path:
    """Make it, prove that our llama.cpp takes it, and put it in its place.

    Whatever ends it before, nothing of it is left. Raises BadRequest, NoRoom, OutOfMemory, ConversionFailed,
    Cancelled.
    """
    check(order.script)
    try:
        with workshop(f"{order.name} as GGUF", order.place, order.info.size_bytes) as shop:
            made = shop / order.place.name
            _run(order, shop, made, tell, cancelled)
            tell(Making("reading what was made", 99))
            prove(order.name, made, cancelled)
            made.rename(order.place)
    except OSError as error:
        raise ConversionFailed(order.name, trouble(error, order.place)) from error
    tell(Making("done", 100))
    return order.place


def _run(order: Order, shop: Path, made: Path, tell: Callable[[Making], None], cancelled: Callable[[], bool]) -> None:
    lines: deque[str] = deque(maxlen=LAST_LINES)
    layers = max(1, order.info.shape.layers if order.info.shape else 1)
    percent = 0.0

    def heard(line: str) -> None:
        nonlocal percent
        lines.append(line)
        if found := _WRITING.search(line):
            percent = max(percent, 20 + 0.78 * int(found[1]))
            tell(Making("writing", round(percent, 1)))
        elif found := _LAYER.search(line):
            percent = max(percent, 2 + 18 * min(1.0, int(found[1]) / layers))
            tell(Making(f"reading layer {found[1]}", round(percent, 1)))

    tell(Making("starting the converter", 1))
    argv = (
        *(str(order.python), "-u", "-c", _RUN, str(order.script), str(order.info.path)),
        *("--outfile", str(made), "--outtype", order.precision),
    )
    environment = {**os.environ, **QUIET, "TMPDIR": str(shop), "HF_HOME": str(shop / "home")}
    code = child.run(argv, environment, heard, cancelled=cancelled)
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL) or any("MemoryError" in line for line in lines):
        raise OutOfMemory(order.name, "cpu")
    if code:
        said = reason(lines, code, order.script.name)
        if said.startswith("ModuleNotFoundError"):
            said += f"; {order.python} lacks it, and --python names another interpreter"
        raise ConversionFailed(order.name, said, lines)
    try:
        found = inspect(made)
    except UmlError as error:
        raise ConversionFailed(order.name, error.message, lines) from error
    if found.format is not Format.GGUF:
        raise ConversionFailed(order.name, f"{order.script.name} made {found.format}", lines)
