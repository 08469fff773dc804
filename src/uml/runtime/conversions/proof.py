"""What was made is looked at before it is given away: llama.cpp reads it as a load would, without the weights."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from uml.core.errors import ConversionFailed
from uml.engines.llamacpp.dryrun_library import library_path
from uml.runtime.conversions.packing import LAST_LINES
from uml.runtime.installs import child

MODULE: Final = "uml.engines.llamacpp.proof_child"


def prove(name: str, file: Path, cancelled: Callable[[], bool] = lambda: False) -> None:
    """Raises ConversionFailed with what llama.cpp says of the file. name: of the model, for sentences."""
    library = library_path()
    if library is None:
        return
    lines: deque[str] = deque(maxlen=LAST_LINES)
    # It must not take memory of a GPU, nor start a debugger on itself when it aborts.
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "GGML_NO_BACKTRACE": "1"}
    argv = (sys.executable, "-P", "-m", MODULE, str(library), str(file))
    code = child.run(argv, {**os.environ, **hidden}, lines.append, cancelled=cancelled)
    if code:
        said = lines[-1].removeprefix("Refused: ") if lines else f"its process ended with code {code}"
        raise ConversionFailed(name, f"llama.cpp does not take what was made: {said}", lines)
