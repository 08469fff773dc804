"""What ExLlamaV3 and ExLlamaV2 are, as data.

Each has samplers of its own, on the GPU; the names here are those that its own steps honour (exllamav3 1.6.5:
`generator/sampler/custom.py`, exllamav2 0.3.2: `generator/sampler.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.model import Format, Role
from uml.engines.hosted.dialect import SERVER

V3: Final = "exllamav3"
V2: Final = "exllamav2"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OPTIONS: Final = frozenset(
    _names(
        "engine engine_version device ctx parallel batch gpu_layers split_mode tensor_split cache_type_k cache_type_v "
        "lora draft_model draft_max spec_type chat_template chat_template_file reasoning_format extra_flags"
    )
)

_BOTH: Final = _names(
    "temperature temperature_last do_sample top_k top_p min_p repetition_penalty repetition_penalty_range "
    "presence_penalty frequency_penalty dry_multiplier dry_base dry_allowed_length dry_penalty_last_n "
    "xtc_probability xtc_threshold seed ignore_eos min_tokens banned_strings logit_bias "
    "json_schema response_format regex grammar"
)
_V3: Final = _names("adaptive_target adaptive_decay")
_V2: Final = _names("typical_p tfs top_a smoothing_factor mirostat_mode mirostat_tau mirostat_eta")
_NEITHER: Final = _names(
    "input t_max_predict_ms top_h top_n_sigma epsilon_cutoff eta_cutoff min_keep dynamic_temperature dynatemp_low "
    "dynatemp_high dynatemp_range dynatemp_exponent smoothing_curve encoder_repetition_penalty no_repeat_ngram_size "
    "dry_sequence_breakers penalty_alpha guidance_scale negative_prompt sampler_priority custom_token_bans choice "
    "enable_thinking reasoning_budget_tokens logprobs top_logprobs n_probs post_sampling_probs return_tokens "
    "return_progress timings_per_token echo suffix best_of cache_prompt n_keep n_discard n_indent lora "
    "encoding_format dimensions query documents num_beams length_penalty early_stopping plugin_samplers"
)


def _dialect(own: Iterable[str], others: Iterable[str]) -> Mapping[str, str | None]:
    return {
        **{name: name for name in (*SERVER, *_BOTH, *own)},
        **dict.fromkeys((*_NEITHER, *others)),
    }


_NOTE: Final = (
    "It was not run on a GPU yet: its calls were read from the source of {}, and are held against a stand-in of the "
    "library that takes these and no others. It samples on the GPU, by its own steps in its own order. `extra_flags` "
    "take `k_bits=2` to `k_bits=8` and `v_bits` for caches that have no type of their own"
)

SPEC_V3: Final = EngineSpec(
    name=V3,
    title="ExLlamaV3",
    formats=frozenset({Format.EXL3, Format.SAFETENSORS}),
    roles=frozenset({Role.TEXT, Role.DRAFT}),
    devices=frozenset({"cuda"}),
    split="devices",
    served=False,
    options=OPTIONS,
    dialect=_dialect(_V3, _V2),
    quantizations=frozenset({"exl3", "none"}),
    install_command=f"uml engine install {V3}",
    note=_NOTE.format("exllamav3 1.6.5"),
)

SPEC_V2: Final = EngineSpec(
    name=V2,
    title="ExLlamaV2",
    formats=frozenset({Format.EXL2}),
    roles=frozenset({Role.TEXT, Role.DRAFT}),
    devices=frozenset({"cuda"}),
    split="devices",
    served=False,
    options=OPTIONS,
    dialect=_dialect(_V2, _V3),
    install_command=f"uml engine install {V2}",
    note=_NOTE.format("exllamav2 0.3.2"),
)
