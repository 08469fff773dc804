"""How surprised GGUF models are by a text: one number to tell by what a quantization has cost."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.errors import BadFile
from uml.core.model import ModelInfo
from uml.engines.llamacpp.dryrun_library import library_path
from uml.formats.reader import opened, read_at
from uml.runtime.conversions.workshop import Making
from uml.runtime.installs import child

MODULE: Final = "uml.engines.llamacpp.perplexity_child"
WINDOW: Final = 512
"""Tokens that are read at once, as in llama.cpp's own tool: only numbers of the same window compare."""
LONGEST_BYTES: Final = 16 << 20
LAST_LINES: Final = 40
_HEARD: Final = re.compile(r"^(\d+)% so far$")


@dataclass(frozen=True, slots=True)
class Perplexity:
    """e to the mean cost of a token in nats. tokens: how many were scored."""

    value: float
    tokens: int


class NotMeasured(Exception):
    """There is no number, and why."""


def check(text: Path) -> None:
    """Whether it is a text that can be read. Raises BadFile."""
    with opened(text) as (file, size):
        if size > LONGEST_BYTES:
            raise BadFile(text, f"has {size} bytes; at most {LONGEST_BYTES} are measured")
        raw = read_at(file, 0, size)
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise BadFile(text, f"is no UTF-8 text: byte {error.start} is not") from error
    if b"\0" in raw:
        raise BadFile(text, "is no text: there are zero bytes in it")


def measure(
    info: ModelInfo,
    text: Path,
    threads: int,
    tell: Callable[[Making], None],
    cancelled: Callable[[], bool] = lambda: False,
) -> Perplexity:
    """Load the model in a process of its own, without a GPU, and let it read. Raises NotMeasured, Cancelled."""
    library = library_path()
    if library is None:
        raise NotMeasured("the library of llama.cpp is not installed (xllamacpp)")
    window = min(WINDOW, info.context_length or WINDOW)
    lines: deque[str] = deque(maxlen=LAST_LINES)

    def heard(line: str) -> None:
        lines.append(line)
        if found := _HEARD.match(line):
            tell(Making("measuring perplexity", float(found[1])))

    tell(Making("measuring perplexity", 0))
    # It must not take memory of a GPU, nor start a debugger on itself when it aborts.
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "GGML_NO_BACKTRACE": "1"}
    argv = (
        *(sys.executable, "-P", "-m", MODULE, str(library), str(info.path)),
        *(str(text), str(window), str(threads)),
    )
    try:
        code = child.run(argv, {**os.environ, **hidden}, heard, cancelled=cancelled)
    except OSError as error:
        raise NotMeasured(error.strerror or str(error)) from error
    if code == -signal.SIGKILL:
        raise NotMeasured("it was killed; most likely there is not enough memory")
    last = next((line for line in reversed(lines) if not _HEARD.match(line)), "")
    try:
        if code == 0:
            said = json.loads(last)
            return Perplexity(float(said["perplexity"]), int(said["tokens"]))
    except (ValueError, KeyError, TypeError) as error:
        raise NotMeasured(f"it says {last[:80]!r}") from error
    raise NotMeasured(last.removeprefix("Refused: ") or f"the process ended with code {code}")
