"""A plan as `trtllm-serve` is told it. Names of arguments are those of `tensorrt_llm/commands/serve.py`."""

from __future__ import annotations

from uml.core.model import Format
from uml.core.plan import LoadPlan
from uml.engines.external import spread


def arguments(plan: LoadPlan, host: str, port: str) -> list[str]:
    """Everything after `trtllm-serve`. Raises BadOption."""
    options, info = plan.options, plan.model.info
    built = info.format is Format.TENSORRT_LLM
    words = [
        *("serve", str(info.path), "--host", host, "--port", port),
        *("--backend", "tensorrt" if built else "pytorch", "--log_level", "info"),
        *("--max_batch_size", str(max(1, options.parallel))),
        # A built engine has its GPUs in it already.
        *([] if built else spread(plan, "--pipeline_parallel_size", "--tensor_parallel_size")),
    ]
    if options.ctx:
        words += ["--max_seq_len", str(options.ctx)]
    if plan.asked_options.batch:
        # Without one it takes what it was built for, or what suits its GPU.
        words += ["--max_num_tokens", str(max(options.batch, options.parallel))]
    if template := options.chat_template_file or options.chat_template:
        words += ["--chat_template", template]
    return words + list(options.extra_flags)
