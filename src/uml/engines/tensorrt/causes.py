"""Why TensorRT-LLM did not get ready, or died, from the end of its log."""

from __future__ import annotations

import re
from typing import Final

from uml.core.errors import CorruptFile, UmlError, UnsupportedArchitecture
from uml.core.plan import LoadPlan
from uml.engines.external import Finding, flag, memory, told


def _architecture(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return UnsupportedArchitecture(
        plan.model.id,
        f"this version of TensorRT-LLM does not know the architecture {match['name']}",
        architecture=match["name"],
    )


def _built(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return CorruptFile(
        plan.model.info.path,
        match["reason"].strip(),
        "an engine that was built by this version of TensorRT-LLM for this model of GPU",
    )


FINDINGS: Final[tuple[tuple[re.Pattern[str], Finding], ...]] = tuple(
    (re.compile(pattern), finding)
    for pattern, finding in (
        (r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA (?:error: )?out of memory|cudaErrorMemoryAllocation", memory),
        (r"Executor creation failed due to insufficient GPU memory", memory),
        (r"Unknown architecture for AutoModelForCausalLM: (?P<name>\w+)", _architecture),
        (
            r"(?P<reason>[^\n]*(?:engine plan file is (?:not compatible|generated)|Serialization assertion)[^\n]*)",
            _built,
        ),
        (r"Error: (?P<reason>(?:No such option|Invalid value|Missing argument)[^\n]*)", flag("trtllm-serve")),
        (r"(?P<reason>No GPU devices found on the node)", told),
        (r"(?:ValueError|RuntimeError|AssertionError): (?P<reason>[^\n]+)", told),
    )
)
"""What to look for, in this order, and what it means."""
