"""Converters of others, run as processes: nothing reaches for the network, and their last words become causes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

LAST_LINES: Final = 40
QUIET: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
DIE_WITH_PARENT: Final = (
    "import ctypes, sys\n"
    # Killed with this process, it would work on for nobody (prctl's PR_SET_PDEATHSIG).
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, 9)\n"
)
"""The first lines of a program for their interpreter."""


def reason(lines: Sequence[str], code: int, what: str = "the builder") -> str:
    """Why one failed, from its last lines: the last error of Python's, else the last line."""
    # Errors of several at once stand behind a bar.
    errors = [line.strip(" |") for line in lines if re.match(r"^[\s|]*[\w.]*(?:Error|Exception)\b:?", line)]
    told = errors[-1] if errors else next((line.strip() for line in reversed(lines) if line.strip()), "")
    if "No space left on device" in told:
        return "the disk is full"
    return told or f"{what} ended with code {code}"
