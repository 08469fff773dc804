"""Whether llama.cpp takes a file: its header, its vocabulary and its tensors are read, none of its weights.

Run as a module, `python -P -m uml.engines.llamacpp.proof_child LIBRARY MODEL`. Ends with a sentence and code 1 where
the engine would not load the file; it is a process of its own because ggml aborts where it is not content.
"""

from __future__ import annotations

import sys
from typing import Final

from uml.engines.llamacpp.dryrun_child import Engine, Refused

CONTEXT: Final = 64


def main(library: str, model: str) -> None:
    """Read the model as a load would, in its mind."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # killed with its parent, it would work on for nobody: PR_SET_PDEATHSIG
    question = {
        "path": model,
        "model": {"use_extra_bufts": False, "on_cpu": []},
        "context": {"n_ctx": CONTEXT, "n_batch": CONTEXT, "n_ubatch": CONTEXT},
    }
    try:
        Engine(library).answer(question)
    except Refused as error:
        sys.exit(f"Refused: {error}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
