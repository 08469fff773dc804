"""Why vLLM did not get ready, or died, from the end of its log. The texts are those of version 0.32."""

from __future__ import annotations

import re
from typing import Final

from uml.core.errors import BadOption, CorruptFile, LoadFailed, UmlError, UnsupportedArchitecture
from uml.core.plan import LoadPlan
from uml.engines.external import Finding, flag, memory, told


def _architecture(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    name = match["name"].strip("[]'\" ")
    return UnsupportedArchitecture(
        plan.model.id, f"this version of vLLM does not know the architecture {name}; a newer one may", architecture=name
    )


def _context(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return BadOption("ctx", plan.options.ctx, f"a context that fits into the cache ({match['reason'].strip()[:200]})")


def _adapter(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    expected = f"adapters that vLLM lays over this model ({match['reason'].strip()[:300]})"
    return BadOption("lora", list(plan.options.lora), expected)


def _device(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return LoadFailed(plan.model.id, f"vLLM finds no device that it was built for: {match['reason'].strip()}")


def _corrupt(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return CorruptFile(plan.model.info.path, match["reason"].strip())


FINDINGS: Final[tuple[tuple[re.Pattern[str], Finding], ...]] = tuple(
    (re.compile(pattern), finding)
    for pattern, finding in (
        (r"torch\.(?:cuda\.)?(?:OutOfMemoryError|AcceleratorError: CUDA error: out of memory)", memory),
        (r"Free memory on device [^\n]* is less than (?:desired GPU memory utilization|the engine's budget)", memory),
        (r"No available memory for the cache blocks", memory),
        (r"(?P<reason>[^\n]*larger than the available KV cache memory[^\n]*)", _context),
        (r"Model architectures (?P<name>\[[^\]\n]*\]) (?:are not supported|failed to be inspected)", _architecture),
        (r"error: (?P<reason>(?:unrecognized arguments|argument [^\n:]+:)[^\n]*)", flag("vllm")),
        (
            r"(?P<reason>Failed to infer device type|No CUDA GPUs are available|CUDA driver version is insufficient)",
            _device,
        ),
        (r"(?P<reason>While loading [^\n]+, expected target modules in [^\n]+)", _adapter),
        (r"(?P<reason>vLLM does not (?:yet )?support (?:DoRA|LoRA bias|init_lora_weights)[^\n]*)", _adapter),
        (r"(?P<reason>vLLM does not support (?:Activated LoRA|layer_replication|block-diag|QALoRA)[^\n]*)", _adapter),
        (r"(?P<reason>vLLM only supports modules_to_save being [^\n]*|Adapter bias is not supported)", _adapter),
        (r"(?P<reason>LoRA is not supported (?:for|with) [^\n]*)", _adapter),
        (r"(?P<reason>[^\n:]* does not support LoRA yet|When using LoRA, vocab size must be [^\n]*)", _adapter),
        (r"(?P<reason>SafetensorError: [^\n]+)", _corrupt),
        (r"(?:ValueError|RuntimeError|pydantic[^\n]*ValidationError): (?P<reason>[^\n]+)", told),
    )
)
"""What to look for, in this order, and what it means."""
