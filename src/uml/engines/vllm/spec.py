"""What vLLM is, as data.

Names of parameters are those of its OpenAI server at version 0.32, which its recipe installs
(`vllm/entrypoints/openai/*/protocol.py`); 0.33 has the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.model import Format, Role
from uml.engines.vllm.adapters import RANKS

NAME: Final = "vllm"
INSTALL: Final = "uml engine install vllm"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


QUANTIZATIONS: Final = frozenset(
    _names(
        "none gptq awq auto-round bitsandbytes torchao compressed-tensors fp8 fbgemm-fp8 ptpc-fp8 modelopt mxfp4 nvfp4 "
        "quark experts-int8"
    )
)

OPTIONS: Final = frozenset(
    _names(
        "engine engine_version ctx parallel batch device split_mode gpu_layers cache_type_k cache_type_v lora "
        "draft_model draft_max chat_template chat_template_file cache_prompt sleep extra_flags"
    )
)

SAME: Final = _names(
    "messages prompt input stream stream_options n stop seed ignore_eos max_tokens min_tokens temperature top_k top_p "
    "min_p presence_penalty frequency_penalty repetition_penalty logit_bias logprobs top_logprobs response_format "
    "tools tool_choice parallel_tool_calls chat_template_kwargs reasoning_effort add_generation_prompt "
    "continue_final_message echo encoding_format dimensions"
)

RENAMED: Final[Mapping[str, str]] = {
    "reasoning_budget_tokens": "thinking_token_budget",
    "return_tokens": "return_token_ids",
    "json_schema": "response_format",
    "regex": "structured_outputs.regex",
    "choice": "structured_outputs.choice",
    "grammar": "structured_outputs.grammar",
    "banned_strings": "bad_words",
    # Bans are said as biases, which are an object here.
    "custom_token_bans": "logit_bias",
    # The name of one adapter, in place of the model's.
    "lora": "model",
}

ABSENT: Final = _names(
    "model strict do_sample t_max_predict_ms top_a top_h typical_p tfs top_n_sigma epsilon_cutoff eta_cutoff "
    "xtc_probability xtc_threshold min_keep dynamic_temperature dynatemp_low dynatemp_high dynatemp_range "
    "dynatemp_exponent smoothing_factor smoothing_curve adaptive_target adaptive_decay mirostat_mode mirostat_tau "
    "mirostat_eta repetition_penalty_range encoder_repetition_penalty no_repeat_ngram_size dry_multiplier dry_base "
    "dry_allowed_length dry_penalty_last_n dry_sequence_breakers penalty_alpha guidance_scale negative_prompt "
    "sampler_priority temperature_last enable_thinking reasoning_format n_probs post_sampling_probs return_progress "
    "timings_per_token suffix best_of cache_prompt n_keep n_discard n_indent query documents "
    "num_beams length_penalty early_stopping plugin_samplers"
)
"""`model` is among them: the server answers to its own name and to its adapters' only, and the request has come to the
right one already."""

DIALECT: Final[Mapping[str, str | None]] = {**{name: name for name in SAME}, **RENAMED, **dict.fromkeys(ABSENT)}

SPEC: Final = EngineSpec(
    name=NAME,
    title="vLLM",
    formats=frozenset({Format.SAFETENSORS}),
    roles=frozenset({Role.TEXT, Role.EMBEDDING, Role.DRAFT}),
    devices=frozenset({"cuda", "rocm", "cpu"}),
    split="devices",
    served=True,
    options=OPTIONS,
    dialect=DIALECT,
    quantizations=QUANTIZATIONS,
    install_command=INSTALL,
    inputs=frozenset({"image", "audio", "video"}),
    home=frozenset({"cuda", "rocm"}),
    adapter_ranks=RANKS,
    note=(
        "It was not run on a GPU yet: its arguments and parameters were read from version 0.32, which its recipe "
        "installs (0.33 has the same), and are held against a program that takes these and refuses others. A "
        "model that leaves its GPUs for another sleeps in main memory while that is free, and wakes in place of a "
        "load. Adapters (`lora`) are PEFT's folders with plain LoRA, loaded with the model: one works on an answer, as "
        "strongly as it was made (`PATH=0`: only where a request names it), and none comes or goes later. Calls of "
        "tools that a model chooses itself need `--enable-auto-tool-choice` and `--tool-call-parser` in `extra_flags`"
    ),
)
