"""A walk through every sampler and structure, as data: a request, and what one parameter more must change.

`HOLDS` is for the others: what is there, or is not, in an answer that honours them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Asked = Mapping[str, Any]
Choice = dict[str, Any]

PROMPT: Final = "the cat sat on the mat, the cat sat on the mat, the cat sat on the"
PLAIN: Final[Asked] = {
    "prompt": PROMPT,
    "temperature": 1,
    "top_k": 0,
    "top_p": 1,
    "min_p": 0,
    "seed": 3,
    "max_tokens": 16,
    "n_probs": 30,
    "post_sampling_probs": True,
}
"""Every sampler off, and told what is left after them."""


@dataclass(frozen=True)
class Case:
    """One parameter with a value that cannot go unnoticed. beside: what else the request has, with it and without."""

    value: Any
    beside: Asked = field(default_factory=dict)


_CHAT: Final = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}"
_ENDS: Final = {"prompt": _CHAT.format("What is the capital of Japan?", ""), "max_tokens": 60, "temperature": 0}
"""What is asked has an answer, and the answer an end."""
_AGAIN: Final = "the cat sat on the mat, the cat sat on the"
COPY: Final = {"prompt": _CHAT.format(f"Repeat after me: {_AGAIN} mat", _AGAIN)}
"""What comes next has been said before."""
_DRY: Final = {**COPY, "dry_multiplier": 0.1, "dry_base": 1, "dry_sequence_breakers": ["#"]}
_MIROSTAT: Final = {"mirostat_mode": 2, "max_tokens": 40}
CHANGES: Final[Mapping[str, Case]] = {
    "temperature": Case(4),
    "do_sample": Case(False),
    "top_k": Case(2),
    "top_p": Case(0.05),
    "min_p": Case(0.9),
    "top_a": Case(1),
    "typical_p": Case(0.05),
    "tfs": Case(0.05),
    "top_h": Case(0.05),
    "top_n_sigma": Case(0.1),
    "epsilon_cutoff": Case(4000),
    "eta_cutoff": Case(9000),
    "xtc_probability": Case(1, {"xtc_threshold": 0.001}),
    "xtc_threshold": Case(0.001, {"xtc_probability": 1}),
    "min_keep": Case(9, {"top_p": 0.05}),
    "dynamic_temperature": Case(True, {"dynatemp_low": 3, "dynatemp_high": 4}),
    "dynatemp_low": Case(3, {"dynamic_temperature": True, "dynatemp_high": 4}),
    "dynatemp_high": Case(4, {"dynamic_temperature": True, "dynatemp_low": 1}),
    "dynatemp_range": Case(1, {"temperature": 2}),
    "dynatemp_exponent": Case(5, {"temperature": 2, "dynatemp_range": 1.5}),
    "smoothing_factor": Case(4),
    "smoothing_curve": Case(6, {"smoothing_factor": 0.5}),
    "adaptive_target": Case(0.05, {"max_tokens": 40}),
    "adaptive_decay": Case(0.1, {"adaptive_target": 0.05, "max_tokens": 40}),
    "mirostat_mode": Case(2, {"max_tokens": 40}),
    "mirostat_tau": Case(0.5, _MIROSTAT),
    "mirostat_eta": Case(1, _MIROSTAT),
    "repetition_penalty": Case(5),
    "repetition_penalty_range": Case(2, {"repetition_penalty": 5}),
    "presence_penalty": Case(2),
    "frequency_penalty": Case(2),
    "encoder_repetition_penalty": Case(5),
    "no_repeat_ngram_size": Case(2),
    "dry_multiplier": Case(2, {**COPY, "dry_sequence_breakers": ["#"]}),
    "dry_base": Case(4, _DRY),
    "dry_allowed_length": Case(20, {**_DRY, "dry_multiplier": 3, "dry_base": 2}),
    "dry_penalty_last_n": Case(2, {**_DRY, "dry_multiplier": 3, "dry_base": 2}),
    "dry_sequence_breakers": Case(["the"], {**COPY, "dry_multiplier": 3}),
    "sampler_priority": Case(["temperature"], {"min_p": 0.9}),
    "temperature_last": Case(True, {"sampler_priority": ["temperature", "min_p"], "min_p": 0.6, "temperature": 4}),
    "logit_bias": Case({"300": 100}),
    "custom_token_bans": Case("LIKELIEST", {"temperature": 0}),
    "banned_strings": Case(["LIKELIEST"]),
    "seed": Case(4, {"temperature": 3, "max_tokens": 40}),
    "grammar": Case('root ::= "yes" | "no"'),
    "json_schema": Case({"type": "integer", "minimum": 3, "maximum": 9}),
    "response_format": Case({"type": "json_object"}, {"max_tokens": 24}),
    "regex": Case("[0-9]{3}"),
    "choice": Case(["yes", "no"]),
    "guidance_scale": Case(5.0, {"negative_prompt": "A cat"}),
    "negative_prompt": Case("A cat", {"guidance_scale": 5.0}),
    "stop": Case(["MIDDLE"], {"max_tokens": 24, "temperature": 0, "ignore_eos": True}),
    "max_tokens": Case(2),
    "ignore_eos": Case(True, _ENDS),
    "min_tokens": Case(40, _ENDS),
    "post_sampling_probs": Case(False, {"top_k": 2}),
    "n_probs": Case(3),
}
"""Of each, the answer must be another one with it than without."""


def _cached(choice: Choice) -> Any:
    return ((choice["whole"].get("usage") or {}).get("prompt_tokens_details") or {}).get("cached_tokens")


HOLDS: Final[Mapping[str, tuple[Any, Callable[[Choice], bool]]]] = {
    "n": (2, lambda choice: len(choice["whole"]["choices"]) == 2),
    "return_tokens": (True, lambda choice: bool(choice["whole"].get("tokens") or choice.get("tokens"))),
    "logprobs": (2, lambda choice: bool(choice.get("logprobs"))),
    "cache_prompt": (False, lambda choice: not _cached(choice)),
}
"""Of each, a value and what an answer that honours it has."""

ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("messages", "prompt", "stream", "stream_options"), "tests/engines/test_contract.py"),
    **dict.fromkeys(("input", "encoding_format"), "tests/gateway/test_proxy.py, of models for vectors"),
    **dict.fromkeys(("tools", "tool_choice", "parallel_tool_calls"), "tests/engines/hosted, tests/worker"),
    **dict.fromkeys(
        (
            *("chat_template_kwargs", "enable_thinking", "reasoning_effort", "reasoning_format"),
            *("reasoning_budget_tokens", "add_generation_prompt", "continue_final_message"),
        ),
        "tests/engines/hosted/test_template.py and test_speech.py: it takes a template that knows them",
    ),
    **dict.fromkeys(("num_beams", "length_penalty", "early_stopping"), "tests/engines/transformers, of beams"),
    "top_logprobs": "as n_probs, in chats: tests/worker",
    "lora": "tests/engines/transformers and onnx, tests/worker: it takes an adapter",
    "plugin_samplers": "tests/engines/test_contract.py: it takes a plug-in's file",
    "model": "it brings the request to the worker",
}
"""Where the others are looked at, which an answer of the demo model cannot show."""
