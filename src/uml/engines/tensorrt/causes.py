"""Why TensorRT-LLM did not get ready, or died, from the end of its log."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from uml.core.errors import BadOption, CorruptFile, LoadFailed, OutOfMemory, UmlError, UnsupportedArchitecture
from uml.core.plan import LoadPlan
from uml.engines.handover import cause_of_exit, failure_in

Finding = Callable[[LoadPlan, "re.Match[str]"], UmlError]


def cause(plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
    """The typed cause, the most certain evidence first; None when neither log nor signal tells."""
    for pattern, finding in FINDINGS:
        if match := pattern.search(log):
            return finding(plan, match)
    return failure_in(log) or cause_of_exit(plan, exit_code)


def _memory(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return OutOfMemory(plan.model.id, plan.placement.device, plan.footprint.total_bytes or None)


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


def _flag(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    words = match["reason"].strip()
    if any(flag.partition("=")[0] in words for flag in plan.options.extra_flags if flag.startswith("-")):
        expected = f"arguments that this trtllm-serve takes ({words})"
        return BadOption("extra_flags", list(plan.options.extra_flags), expected)
    return LoadFailed(plan.model.id, f"this trtllm-serve does not take its arguments: {words}", arguments=words)


def _told(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return LoadFailed(plan.model.id, match["reason"].strip()[:500])


FINDINGS: Final[tuple[tuple[re.Pattern[str], Finding], ...]] = tuple(
    (re.compile(pattern), finding)
    for pattern, finding in (
        (r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA (?:error: )?out of memory|cudaErrorMemoryAllocation", _memory),
        (r"Executor creation failed due to insufficient GPU memory", _memory),
        (r"Unknown architecture for AutoModelForCausalLM: (?P<name>\w+)", _architecture),
        (
            r"(?P<reason>[^\n]*(?:engine plan file is (?:not compatible|generated)|Serialization assertion)[^\n]*)",
            _built,
        ),
        (r"Error: (?P<reason>(?:No such option|Invalid value|Missing argument)[^\n]*)", _flag),
        (r"(?P<reason>No GPU devices found on the node)", _told),
        (r"(?:ValueError|RuntimeError|AssertionError): (?P<reason>[^\n]+)", _told),
    )
)
"""What to look for, in this order, and what it means."""
