"""What llama.cpp is, as data.

Request names are those of llama.cpp's server at build b11549: `tools/server/server-schema.cpp`,
`server-common.cpp` and `server-context.cpp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from uml.core.engine import EngineSpec, Precaution
from uml.core.model import Format, Role

NAME: Final = "llamacpp"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SAME: Final = _names(
    "temperature top_p top_k min_p typical_p top_n_sigma xtc_threshold xtc_probability adaptive_target adaptive_decay "
    "dynatemp_range dynatemp_exponent mirostat_tau mirostat_eta presence_penalty frequency_penalty "
    "dry_multiplier dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers "
    "logit_bias grammar json_schema response_format seed stop n max_tokens max_completion_tokens logprobs top_logprobs "
    "query documents stream stream_options tools tool_choice parallel_tool_calls reasoning_effort "
    # The engine's own, let through under its own names:
    "cache_prompt id_slot n_probs min_keep n_keep n_discard n_indent n_cache_reuse ignore_eos timings_per_token "
    "return_progress sse_ping_interval t_max_predict_ms response_fields post_sampling_probs "
    "backend_sampling lora chat_template_kwargs reasoning_format reasoning_budget_tokens reasoning_budget_message "
    "thinking_budget_tokens reasoning_control add_generation_prompt continue_final_message samplers grammar_lazy "
    "grammar_triggers preserved_tokens"
)


RENAMED: Final[Mapping[str, str]] = {
    "mirostat_mode": "mirostat",
    "repetition_penalty": "repeat_penalty",
    # 0 means no window in the engine and the whole context elsewhere.
    "repetition_penalty_range": "repeat_last_n",
    # The names in the list are the engine's: penalties dry top_n_sigma top_k typ_p top_p min_p xtc temperature
    # adaptive_p infill.
    "sampler_priority": "samplers",
    "grammar_string": "grammar",
    "ban_eos_token": "ignore_eos",
    "max_new_tokens": "max_tokens",
}

ABSENT: Final = _names(
    "smoothing_factor smoothing_curve epsilon_cutoff eta_cutoff tfs top_a top_h encoder_repetition_penalty "
    "no_repeat_ngram_size encoder_no_repeat_ngram_size penalty_alpha guidance_scale negative_prompt num_beams "
    "length_penalty early_stopping num_return_sequences do_sample temperature_last dynamic_temperature dynatemp_low "
    "dynatemp_high custom_token_bans banned_tokens banned_strings min_new_tokens min_tokens max_time "
    "truncation_length auto_max_new_tokens add_bos_token skip_special_tokens prompt_lookup_num_tokens token_healing "
    "watermarking_config best_of suffix echo "
    # It has them in its own endpoints only, and says nothing of it in OpenAI's.
    "return_tokens"
)


DIALECT: Final[Mapping[str, str | None]] = {
    **{name: name for name in SAME},
    **RENAMED,
    **dict.fromkeys(ABSENT),
}

PRECAUTIONS: Final = (
    Precaution(
        "repack",
        False,
        "kernels for re-ordered weights are what differs most between processors",
        # b11549, seen on a processor with AMX: with flash attention it aborts in the first batch.
        architectures=frozenset({"deepseek2"}),
    ),
    Precaution("flash_attention", "off", "it has kernels of its own for every kind of cache"),
)
"""What may help a build that aborts, as one for this very machine does with some models."""

GBNF: Final[Mapping[str, Literal["gbnf", "llguidance"]]] = {"chat": "gbnf", "completion": "gbnf"}
WHEEL: Final[Mapping[str, Literal["gbnf", "llguidance"]]] = {"chat": "gbnf", "completion": "llguidance"}
"""Chats never come to llguidance: their grammar has the forms of thoughts and calls in it too (b11549)."""

EXTERNAL_ONLY: Final = frozenset({"override_kv", "control_vector", "extra_flags"})
"""What only a `llama-server` program takes: the embedded library has no field for it."""


def spec(options: frozenset[str], devices: frozenset[str]) -> EngineSpec:
    """The engine with the options and devices of the build in use."""
    return EngineSpec(
        name=NAME,
        title="llama.cpp",
        formats=frozenset({Format.GGUF}),
        roles=frozenset({Role.TEXT, Role.EMBEDDING, Role.RERANKER, Role.DRAFT}),
        devices=devices,
        split="devices",
        served=True,
        # It looks once a second, and never while another slot is busy: measured on b11549.
        notices_leaving=False,
        options=options,
        dialect=DIALECT,
        # Their heads have the words yes and no, and its graph ends with a softmax of these.
        probable=frozenset({"qwen3", "qwen3vl"}),
        precautions=PRECAUTIONS,
        install_command="pip install universal-model-loader",
        schemas=WHEEL,
        mute=True,
        note=(
            "JSON schemas of chats, and of the tools that they call, are followed by llama.cpp's own converter, which "
            "passes over some keywords, as `multipleOf`, `uniqueItems`, bounds of numbers that are no integers, and "
            "patterns that have no ^ and $ or such classes as \\d; those of completions by llguidance, which knows "
            "more, in the wheel. A request gets a warning that names what is passed over, or 400 where it says "
            "`strict`. Of models whose calls are no JSON less of a schema is followed. Where `tool_choice` asks for a "
            "call, text may come before it, and nothing else where the tokens end first (`finish_reason` is "
            "`length`). A request is given up between two batches of its prompt (`batch`), never within one"
        ),
    )
