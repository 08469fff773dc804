"""Why vLLM did not get ready, or died, from the end of its log. The texts are those of version 0.32."""

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
    name = match["name"].strip("[]'\" ")
    return UnsupportedArchitecture(
        plan.model.id, f"this version of vLLM does not know the architecture {name}; a newer one may", architecture=name
    )


def _context(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return BadOption("ctx", plan.options.ctx, f"a context that fits into the cache ({match['reason'].strip()[:200]})")


def _flag(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    words = match["reason"].strip()
    if any(flag.partition("=")[0] in words for flag in plan.options.extra_flags if flag.startswith("-")):
        return BadOption("extra_flags", list(plan.options.extra_flags), f"arguments that this vllm takes ({words})")
    return LoadFailed(plan.model.id, f"this vllm does not take its arguments: {words}", arguments=words)


def _device(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return LoadFailed(plan.model.id, f"vLLM finds no device that it was built for: {match['reason'].strip()}")


def _corrupt(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return CorruptFile(plan.model.info.path, match["reason"].strip())


def _told(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return LoadFailed(plan.model.id, match["reason"].strip()[:500])


FINDINGS: Final[tuple[tuple[re.Pattern[str], Finding], ...]] = tuple(
    (re.compile(pattern), finding)
    for pattern, finding in (
        (r"torch\.(?:cuda\.)?(?:OutOfMemoryError|AcceleratorError: CUDA error: out of memory)", _memory),
        (r"Free memory on device [^\n]* is less than (?:desired GPU memory utilization|the engine's budget)", _memory),
        (r"No available memory for the cache blocks", _memory),
        (r"(?P<reason>[^\n]*larger than the available KV cache memory[^\n]*)", _context),
        (r"Model architectures (?P<name>\[[^\]\n]*\]) (?:are not supported|failed to be inspected)", _architecture),
        (r"error: (?P<reason>(?:unrecognized arguments|argument [^\n:]+:)[^\n]*)", _flag),
        (
            r"(?P<reason>Failed to infer device type|No CUDA GPUs are available|CUDA driver version is insufficient)",
            _device,
        ),
        (r"(?P<reason>SafetensorError: [^\n]+)", _corrupt),
        (r"(?:ValueError|RuntimeError|pydantic[^\n]*ValidationError): (?P<reason>[^\n]+)", _told),
    )
)
"""What to look for, in this order, and what it means."""
