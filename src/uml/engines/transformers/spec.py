"""What Transformers is, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.model import Format, Role
from uml.engines.hosted.dialect import DIALECT

NAME: Final = "transformers"
GPTQ: Final = "gptqmodel"
"""The install that runs GPTQ and AWQ: it changes Transformers, and so has an environment of its own."""
TITLE: Final = "Transformers"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OPTIONS: Final = frozenset(
    _names(
        "engine engine_version ctx parallel batch threads device max_memory offload_folder mmap dtype attention "
        "flash_attention quantize quantize_compute quantize_double trust_remote_code cache_prompt warmup embeddings "
        "pooling lora draft_model draft_max draft_min draft_p_min spec_type spec_ngram_size_n spec_ngram_size_m "
        "rope_scaling rope_freq_base rope_freq_scale yarn_orig_ctx yarn_attn_factor yarn_beta_fast yarn_beta_slow "
        "chat_template chat_template_file reasoning_format gpu_layers"
    )
)

ON_PROCESSORS: Final = frozenset({"none", "bitsandbytes", "torchao", "compressed-tensors", "bitnet"})
WITH_GPTQMODEL: Final = frozenset({"gptq", "awq"})
QUANTIZATIONS: Final = ON_PROCESSORS | WITH_GPTQMODEL | {"fp8", "fbgemm-fp8", "mxfp4", "hqq", "quanto", "aqlm"}
"""Of `formats.hf_quantization`, by its names."""
NEEDS: Final[Mapping[str, str]] = {
    "fp8": "a GPU of NVIDIA with FP8 (compute capability 8.9 or later)",
    "fbgemm-fp8": "a GPU of NVIDIA with FP8, and the package fbgemm-gpu",
    "mxfp4": "a GPU, and the packages triton and kernels",
    "hqq": "the package hqq",
    "quanto": "the package optimum-quanto",
    "aqlm": "a GPU, and the package aqlm",
}
"""What a quantization needs that the environment of `uml engine install` does not have."""

SPEC: Final = EngineSpec(
    name=NAME,
    title=TITLE,
    formats=frozenset({Format.SAFETENSORS, Format.PYTORCH}),
    roles=frozenset({Role.TEXT, Role.EMBEDDING, Role.DRAFT}),
    devices=frozenset({"cpu", "cuda", "rocm", "metal"}),
    split="devices",
    served=False,
    options=OPTIONS,
    dialect=DIALECT,
    inputs=frozenset({"image"}),
    quantizations=QUANTIZATIONS,
    install_command=f"uml engine install {NAME}",
)
