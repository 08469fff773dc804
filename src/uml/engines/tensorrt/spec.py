"""What TensorRT-LLM is, as data.

Names of parameters are those of its OpenAI server (`tensorrt_llm/serve/openai_protocol.py`), which refuses every field
that it does not know: what it may not know is not sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.model import Format, Role

NAME: Final = "tensorrt-llm"
INSTALL: Final = "uml engine install tensorrt-llm"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OPTIONS: Final = frozenset(
    _names(
        "engine engine_version ctx parallel batch device split_mode gpu_layers chat_template chat_template_file "
        "extra_flags"
    )
)

SAME: Final = _names(
    "model messages prompt stream stream_options n stop seed ignore_eos max_tokens min_tokens temperature top_k top_p "
    "min_p presence_penalty frequency_penalty repetition_penalty logit_bias logprobs top_logprobs response_format "
    "tools tool_choice chat_template_kwargs add_generation_prompt echo best_of"
)

RENAMED: Final[Mapping[str, str]] = {"json_schema": "response_format", "custom_token_bans": "logit_bias"}

ABSENT: Final = _names(
    "input strict do_sample t_max_predict_ms top_a top_h regex choice banned_strings keep_alive typical_p tfs "
    "top_n_sigma epsilon_cutoff eta_cutoff xtc_probability xtc_threshold min_keep dynamic_temperature dynatemp_low "
    "dynatemp_high dynatemp_range dynatemp_exponent smoothing_factor smoothing_curve adaptive_target adaptive_decay "
    "mirostat_mode mirostat_tau mirostat_eta repetition_penalty_range encoder_repetition_penalty no_repeat_ngram_size "
    "dry_multiplier dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers penalty_alpha guidance_scale "
    "negative_prompt sampler_priority temperature_last grammar enable_thinking parallel_tool_calls reasoning_effort "
    "reasoning_format reasoning_budget_tokens continue_final_message n_probs post_sampling_probs return_tokens "
    "return_progress timings_per_token suffix cache_prompt n_keep n_discard n_indent lora encoding_format dimensions "
    "num_beams length_penalty early_stopping query documents top_n return_documents raw_scores user metadata store "
    "service_tier safety_identifier prompt_cache_key plugin_samplers"
)

DIALECT: Final[Mapping[str, str | None]] = {**{name: name for name in SAME}, **RENAMED, **dict.fromkeys(ABSENT)}

SPEC: Final = EngineSpec(
    name=NAME,
    title="TensorRT-LLM",
    formats=frozenset({Format.TENSORRT_LLM, Format.SAFETENSORS}),
    roles=frozenset({Role.TEXT, Role.DRAFT}),
    devices=frozenset({"cuda"}),
    split="devices",
    served=True,
    options=OPTIONS,
    dialect=DIALECT,
    # Of engine folders `tensorrt-llm`; the others are those of safetensors that its PyTorch way reads.
    quantizations=frozenset({"tensorrt-llm", "none", "fp8", "modelopt", "awq", "gptq", "mxfp4"}),
    # Whether it notices in every version is not known: what is streamed it notices when it writes.
    notices_leaving=False,
    install_command=INSTALL,
    note=(
        "It was not run on a GPU yet: its arguments and parameters were read from its source on GitHub, and are held "
        "against a program that takes these and refuses others; with 1.2.1, which its recipe installs, they were not "
        "compared, for that comes from NVIDIA's index. Its server has no key and listens on a port of loopback: a "
        "sandbox keeps that to its worker, without one it is open to the users of this machine"
    ),
)
