"""What ExLlamaV3 and ExLlamaV2 are, as data. Both have all samplers of ours."""

from __future__ import annotations

from typing import Final

from uml.core.engine import EngineSpec
from uml.core.model import Format, Role
from uml.engines.hosted import dialect as hosted

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

_LACKING: Final = _names(
    "input query documents encoding_format enable_thinking guidance_scale negative_prompt lora cache_prompt "
    "num_beams length_penalty early_stopping"
)
"""What our server and samplers would do for a host that does its part: these do not."""

DIALECT: Final = {
    **hosted.DIALECT,
    "custom_token_bans": "custom_token_bans",
    **dict.fromkeys(_LACKING),
}

_NOTE: Final = (
    "It was not run on a GPU yet: its calls were read from the source of {}, and are held against a stand-in of the "
    "library that takes these and no others. {} `extra_flags` take `k_bits=2` to `k_bits=8` and `v_bits` for caches "
    "that have no type of their own"
)
_SAMPLES_V3: Final = (
    "Where a request asks for nothing but biases, penalties of repetition, `top_k`, `top_p`, `min_p` and a temperature "
    "of 0 or of 0.2 and more, it samples by its own steps on the GPU, in the order of the request; for all other "
    "requests by our samplers on the processor, which takes the scores of every token there."
)
_SAMPLES_V2: Final = "It samples by our samplers, where its own would be too: on the processor."

SPEC_V3: Final = EngineSpec(
    name=V3,
    title="ExLlamaV3",
    formats=frozenset({Format.EXL3, Format.SAFETENSORS}),
    roles=frozenset({Role.TEXT, Role.DRAFT}),
    devices=frozenset({"cuda"}),
    split="devices",
    served=False,
    options=OPTIONS,
    dialect=DIALECT,
    quantizations=frozenset({"exl3", "none"}),
    install_command=f"uml engine install {V3}",
    note=_NOTE.format("exllamav3 1.6.5", _SAMPLES_V3),
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
    dialect=DIALECT,
    install_command=f"uml engine install {V2}",
    note=_NOTE.format("exllamav2 0.3.2", _SAMPLES_V2),
)
