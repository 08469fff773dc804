"""A plan as `trtllm-serve` is told it. Names of arguments are those of `tensorrt_llm/commands/serve.py`."""

from __future__ import annotations

from uml.core.errors import BadOption
from uml.core.model import Format
from uml.core.plan import LoadPlan


def arguments(plan: LoadPlan, host: str, port: str) -> list[str]:
    """Everything after `trtllm-serve`. Raises BadOption."""
    options, info = plan.options, plan.model.info
    built = info.format is Format.TENSORRT_LLM
    words = [
        *("serve", str(info.path), "--host", host, "--port", port),
        *("--backend", "tensorrt" if built else "pytorch", "--log_level", "info"),
        *("--max_batch_size", str(max(1, options.parallel))),
        *_spread(plan),
    ]
    if options.ctx:
        words += ["--max_seq_len", str(options.ctx)]
    if plan.asked_options.batch:
        # Without one it takes what it was built for, or what suits its GPU.
        words += ["--max_num_tokens", str(max(options.batch, options.parallel))]
    if template := options.chat_template_file or options.chat_template:
        words += ["--chat_template", template]
    return words + list(options.extra_flags)


def gpus(plan: LoadPlan) -> tuple[str, ...]:
    """The GPUs of a plan, in order."""
    chosen = plan.placement.device_bytes if plan.options.device == "auto" else plan.options.device.split(",")
    return tuple(name for part in chosen if (name := part.strip()) not in ("", "cpu"))


def _spread(plan: LoadPlan) -> list[str]:
    """Over several GPUs: layer after layer, or each layer in parts. A built engine has that in it already."""
    count = len(gpus(plan))
    if count < 2 or plan.model.info.format is Format.TENSORRT_LLM:
        return []
    if plan.options.split_mode == "none":
        raise BadOption("split_mode", "none", "layer, row or tensor: the plan has several GPUs; name one with device")
    way = "--pipeline_parallel_size" if plan.options.split_mode == "layer" else "--tensor_parallel_size"
    return [way, str(count)]
