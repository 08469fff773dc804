"""What ONNX Runtime and ONNX Runtime GenAI are to this program, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.model import Format, Role

NAME: Final = "onnx"
INSTALL: Final = "uml engine install onnx"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OPTIONS: Final = frozenset(
    _names(
        "engine engine_version device ctx parallel batch threads cache_prompt slot_similarity warmup lora "
        "chat_template chat_template_file reasoning_format pooling"
    )
)

SAME: Final = _names(
    "max_tokens n stop seed ignore_eos temperature top_k top_p min_p top_a typical_p tfs top_n_sigma epsilon_cutoff "
    "eta_cutoff xtc_probability xtc_threshold min_keep dynamic_temperature dynatemp_low dynatemp_high dynatemp_range "
    "dynatemp_exponent smoothing_factor smoothing_curve adaptive_target adaptive_decay mirostat_mode mirostat_tau "
    "mirostat_eta repetition_penalty repetition_penalty_range presence_penalty frequency_penalty "
    "encoder_repetition_penalty no_repeat_ngram_size dry_multiplier dry_base dry_allowed_length dry_penalty_last_n "
    "dry_sequence_breakers do_sample sampler_priority temperature_last logit_bias json_schema response_format tools "
    "tool_choice chat_template_kwargs reasoning_effort reasoning_format add_generation_prompt continue_final_message "
    "logprobs top_logprobs n_probs post_sampling_probs return_tokens cache_prompt lora"
)
"""Parameters under our own names: the samplers and structures are ours (`uml.sampling`)."""

ABSENT: Final = _names(
    "t_max_predict_ms grammar penalty_alpha guidance_scale negative_prompt parallel_tool_calls reasoning_budget_tokens "
    "return_progress timings_per_token echo suffix best_of n_keep n_discard n_indent"
)

DIALECT: Final[Mapping[str, str | None]] = {**{name: name for name in SAME}, **dict.fromkeys(ABSENT)}

SPEC: Final = EngineSpec(
    name=NAME,
    title="ONNX Runtime",
    formats=frozenset({Format.ONNX_GENAI, Format.ONNX}),
    roles=frozenset({Role.TEXT, Role.EMBEDDING, Role.RERANKER}),
    devices=frozenset({"cpu"}),
    split="whole",
    served=False,
    options=OPTIONS,
    dialect=DIALECT,
    install_command=INSTALL,
)
