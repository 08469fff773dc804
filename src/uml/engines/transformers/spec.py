"""What Transformers is, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from uml.core.engine import EngineSpec
from uml.core.model import READERS, Format, Role
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
        "pooling repack lora draft_model draft_max draft_min draft_p_min spec_type spec_ngram_size_n spec_ngram_size_m "
        "rope_scaling rope_freq_base rope_freq_scale yarn_orig_ctx yarn_attn_factor yarn_beta_fast yarn_beta_slow "
        "chat_template chat_template_file reasoning_format gpu_layers"
    )
)

BEAMS: Final = ("num_beams", "length_penalty", "early_stopping")
"""Parameters of requests for the library's search by beams."""

ON_PROCESSORS: Final = frozenset({"none", "bitsandbytes", "torchao", "compressed-tensors", "bitnet", "fp8"})
"""What runs on processors with the environment of `uml engine install`; FP8 is made bfloat16 while it is loaded."""
WITH_GPTQMODEL: Final = frozenset({"gptq", "awq"})


@dataclass(frozen=True, slots=True)
class Need:
    """What a quantization needs beside that environment. gpu: which one, in words; empty: it runs without."""

    packages: tuple[str, ...]
    gpu: str = ""


NEEDS: Final[Mapping[str, Need]] = {
    "fbgemm-fp8": Need(("fbgemm-gpu",), "a GPU of NVIDIA with FP8 (compute capability 9.0 or later)"),
    "mxfp4": Need(("triton", "kernels"), "a GPU"),
    "hqq": Need(("hqq",)),
    "quanto": Need(("optimum-quanto",)),
    "aqlm": Need(("aqlm",), "a GPU"),
    "auto-round": Need(("auto-round",)),
    "eetq": Need(("kernels",), "a GPU of NVIDIA"),
    "higgs": Need(("flute-kernel", "fast-hadamard-transform"), "a GPU of NVIDIA"),
    "spqr": Need(("spqr-quant",), "a GPU of NVIDIA"),
    "vptq": Need(("vptq",), "a GPU of NVIDIA"),
    "fp-quant": Need(("fp-quant", "qutlass"), "a GPU of NVIDIA of the generation Blackwell"),
    "quark": Need(("amd-quark",)),
    "sinq": Need(("sinq",)),
}
"""By what Transformers 5.23 asks for (`quantizers/`); none of them was run."""
QUANTIZATIONS: Final = ON_PROCESSORS | WITH_GPTQMODEL | set(NEEDS)
"""Of `formats.hf_quantization`, by its names."""

SPEC: Final = EngineSpec(
    name=NAME,
    title=TITLE,
    formats=frozenset({Format.SAFETENSORS, Format.PYTORCH}),
    roles=frozenset({Role.TEXT, Role.DRAFT, *READERS}),
    devices=frozenset({"cpu", "cuda", "rocm", "metal"}),
    split="devices",
    served=False,
    options=OPTIONS,
    dialect={**DIALECT, **{name: name for name in BEAMS}},
    inputs=frozenset({"image"}),
    quantizations=QUANTIZATIONS,
    install_command=f"uml engine install {NAME}",
    note=(
        "On a processor these quantizations answered as their own libraries do, on 21 November 2026: bitsandbytes NF4, "
        "FP4 and INT8, torchao INT8 and FP8, compressed-tensors W4A16, BitNet, FP8 by block (made bfloat16 while it is "
        "loaded), and, with the environment `gptqmodel`, GPTQ and AWQ of 4 bits. The others are named with the package "
        "and the device that they need, and were not run. GGUF files are left to llama.cpp: Transformers 5.23 reads no "
        "architecture of them that llama.cpp does not know. `num_beams` and `guidance_scale` go by the library's own "
        "loop, beside the answers that run in rows"
    ),
)
