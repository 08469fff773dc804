"""Request parameters that our own server and samplers know: what every hosted text engine takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.sampling.settings import DIALECT as SAMPLERS
from uml.sampling.settings import STRUCTURES


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SERVER: Final = _names(
    "model messages prompt input stream stream_options n stop max_tokens tools tool_choice parallel_tool_calls "
    "response_format json_schema grammar chat_template_kwargs reasoning_effort reasoning_format add_generation_prompt "
    "continue_final_message return_tokens lora cache_prompt encoding_format strict guidance_scale negative_prompt"
)
"""What our own server does with a request, as far as the host does its part."""
_ABSENT: Final = _names(
    "n_keep n_discard n_indent t_max_predict_ms timings_per_token return_progress reasoning_budget_tokens "
    "penalty_alpha echo suffix best_of dimensions"
)

DIALECT: Final[Mapping[str, str | None]] = {
    **{name: name for name in (*SERVER, "query", "documents")},
    **SAMPLERS,
    **{name: name for name in STRUCTURES},
    **dict.fromkeys(_ABSENT),
}
